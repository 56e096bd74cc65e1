/** Which codecs sections are offered with, and which first: the answer keeps the order where the room has none. */
import type { Codec } from './protocol'

/** The codecs of pictures. */
export type VideoCodec = Exclude<Codec, 'opus'>

/** The same codecs with one of them first. */
export function withFirst<Of extends { mimeType: string }>(codecs: readonly Of[], first: VideoCodec): Of[] {
  const isFirst = ({ mimeType }: Of) => mimeType.toLowerCase() === `video/${first}`
  return [...codecs.filter(isFirst), ...codecs.filter((one) => !isFirst(one))]
}

/** Offers a section in this codec first, where the browser has it; every other one stays possible. */
export function preferCodec(transceiver: RTCRtpTransceiver, codec: VideoCodec): void {
  const all = RTCRtpReceiver.getCapabilities('video')?.codecs ?? []
  const ordered = withFirst(all, codec)
  const isKnown = ordered[0]?.mimeType.toLowerCase() === `video/${codec}`
  if (isKnown && 'setCodecPreferences' in transceiver) transceiver.setCodecPreferences(ordered)
}

/** Offers a receive slot with what can come on it alone: FEC, telephone codecs and rare profiles make up half of an offer. */
export function limitToForwarded(slot: RTCRtpTransceiver): void {
  const all = RTCRtpReceiver.getCapabilities(slot.receiver.track.kind)?.codecs ?? []
  const kept = all.filter(isForwarded)
  if (kept.length > 0 && 'setCodecPreferences' in slot) slot.setCodecPreferences(kept)
}

/** Whether the server forwards this format, in a profile that encoders use. */
export function isForwarded({ mimeType, sdpFmtpLine = '' }: { mimeType: string; sdpFmtpLine?: string }): boolean {
  if (!FORWARDED.test(mimeType)) return false
  return !RARE_PROFILES.test(sdpFmtpLine)
}

const FORWARDED = /^(audio\/(opus|red)|video\/(vp8|vp9|h264|av1|rtx))$/i
// VP9 4:2:2 and 4:4:4, AV1 4:4:4, H.264 4:4:4.
const RARE_PROFILES = /\b(profile-id=[13]|profile=1|profile-level-id=f4)/i
