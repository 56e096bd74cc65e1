/** Which RTP header extensions a section may negotiate, where the browser lets pages say so. */

/** AV1 and VP9 layers can be followed without looking into the payload when this is negotiated. */
export const DEPENDENCY_DESCRIPTOR =
  'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension'

/** What a section with several layers cannot do without (RFC 8852). */
export const SIMULCAST_EXTENSIONS = [
  'urn:ietf:params:rtp-hdrext:sdes:mid',
  'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id',
  'urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id',
] as const

type Controlled = RTCRtpTransceiver & {
  getHeaderExtensionsToNegotiate?(): { uri: string; direction: string }[]
  setHeaderExtensionsToNegotiate?(extensions: { uri: string; direction: string }[]): void
}

/**
 * Switches extensions on.
 *
 * Chromium gives a new section only what was negotiated in the first section of its kind, which here
 * is a receive slot and has no rids: a camera published later would be refused by the browser itself.
 */
export function allowExtensions(transceiver: Controlled, ...uris: readonly string[]): void {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.()
  if (!extensions || !transceiver.setHeaderExtensionsToNegotiate) return
  for (const extension of extensions) {
    if (uris.includes(extension.uri)) extension.direction = 'sendrecv'
  }
  try {
    transceiver.setHeaderExtensionsToNegotiate(extensions)
  } catch {
    // Browsers that know no such choice offer everything anyway.
  }
}
