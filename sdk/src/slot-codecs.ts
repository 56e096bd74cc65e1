/** What a receive slot offers. */

/** What a choice needs to know of a codec. */
export type DescribedCodec = Pick<RTCRtpCodec, 'mimeType' | 'sdpFmtpLine'>

const FORWARDED = /^(audio\/(opus|red)|video\/(vp8|vp9|av1|h264|rtx))$/i

/**
 * Leaves out what the server never sends: codecs it does not forward, and most of the six to nine
 * variants of H264 that browsers list. An offer with nine slots is half as long for it, and browsers
 * set up every codec of every slot.
 */
export function slotCodecs<C extends DescribedCodec>(codecs: readonly C[]): C[] {
  const forwarded = codecs.filter(({ mimeType }) => FORWARDED.test(mimeType))
  const usual = forwarded.filter((codec) => !isH264(codec) || isUsualH264(codec))
  // A browser that has H264 only in another form offers all it has of it.
  return usual.some(isH264) ? usual : forwarded
}

function isH264({ mimeType }: DescribedCodec): boolean {
  return /\/h264$/i.test(mimeType)
}

/** Constrained baseline and high profile, in packets that may be fragments (RFC 6184 §8.1). */
function isUsualH264({ sdpFmtpLine = '' }: DescribedCodec): boolean {
  return /packetization-mode=1/i.test(sdpFmtpLine) && /profile-level-id=(42e0|64)/i.test(sdpFmtpLine)
}

/** Lets a slot offer no more than it needs, where the browser lets pages say so. */
export function trimCodecs(slot: RTCRtpTransceiver): void {
  const kind = slot.receiver.track.kind
  const codecs = slotCodecs(RTCRtpReceiver.getCapabilities?.(kind)?.codecs ?? [])
  if (codecs.length === 0) return
  try {
    slot.setCodecPreferences?.(codecs)
  } catch {
    // Some browsers take only what their senders list as well: then everything is offered.
  }
}
