/**
 * Covers a video element until a frame of its new source is shown, so that nobody's face appears
 * under somebody else's name after the server re-pointed a receive slot.
 */
import { isReached } from './slots'

// The old source's last frames have left the jitter buffer by then; a server whose timestamp is
// never reached must not leave the tile dark for good.
const PATIENCE_MS = 1500

/** Hides `element` until a frame with RTP timestamp `ts` or later is presented; returns the undo. */
export function cover(element: HTMLVideoElement, ts: number | undefined): () => void {
  const opacity = element.style.opacity
  const startedMs = performance.now()
  let handle = 0
  element.style.opacity = '0' // not `visibility`: the browser must go on presenting frames
  element.dataset['plenumCovered'] = ''
  const lift = () => {
    element.style.opacity = opacity
    delete element.dataset['plenumCovered']
    if ('cancelVideoFrameCallback' in element) element.cancelVideoFrameCallback(handle)
    element.removeEventListener('timeupdate', lift)
  }
  if (!('requestVideoFrameCallback' in element)) {
    // No way to see frames: the clock moves once one is shown.
    ;(element as HTMLVideoElement).addEventListener('timeupdate', lift)
    return lift
  }
  const check: VideoFrameRequestCallback = (nowMs, { rtpTimestamp }) => {
    const isNew = ts === undefined || rtpTimestamp === undefined || isReached(rtpTimestamp, ts)
    if (isNew || nowMs - startedMs > PATIENCE_MS) lift()
    else handle = element.requestVideoFrameCallback(check)
  }
  handle = element.requestVideoFrameCallback(check)
  return lift
}
