/** Which layers a track is sent in. */
import type { Source } from './protocol'

const CAMERA_BPS = [150_000, 500_000, 1_500_000] as const // at 320x180, 640x360, 1280x720
const SCREEN_BPS = [400_000, 2_500_000] as const
const RIDS = ['q', 'h', 'f'] as const
const SCREEN_FPS = 15

/** What the caller may say about the layers of a video track. */
export interface LayerChoice {
  /** False: one layer. Default: as many as the picture's size carries. */
  simulcast?: boolean
  /** Upper bound for the largest layer, in bits per second. */
  maxBitrateBps?: number
}

/**
 * The encodings of a video track, lowest layer first.
 *
 * A camera gets three layers from 960 pixels of width on, two from 480, else one: libwebrtc sends
 * only the first rids of smaller pictures, so asking for more would leave the top layer silent.
 */
export function encodingsFor(
  source: Source,
  width: number,
  choice: LayerChoice = {},
): RTCRtpEncodingParameters[] {
  if (source === 'screen_share') return screenEncodings(choice)
  const count = choice.simulcast === false ? 1 : width >= 960 ? 3 : width >= 480 ? 2 : 1
  const bitrates = count === 1 ? [choice.maxBitrateBps ?? 1_500_000] : CAMERA_BPS.slice(0, count)
  return layers(bitrates, choice.maxBitrateBps)
}

function screenEncodings(choice: LayerChoice): RTCRtpEncodingParameters[] {
  const bitrates = choice.simulcast === false ? [SCREEN_BPS[1]] : [...SCREEN_BPS]
  return layers(bitrates, choice.maxBitrateBps).map((encoding) => ({
    ...encoding,
    maxFramerate: SCREEN_FPS,
  }))
}

function layers(bitrates: readonly number[], top?: number): RTCRtpEncodingParameters[] {
  const last = bitrates.length - 1
  return bitrates.map((bps, index) => {
    const maxBitrate = index === last && top !== undefined ? top : bps
    if (last === 0) return { maxBitrate }
    return { rid: RIDS[index]!, scaleResolutionDownBy: 2 ** (last - index), maxBitrate }
  })
}
