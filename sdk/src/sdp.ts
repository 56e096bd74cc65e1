/** The few lines of SDP that no browser API can set. */

/**
 * Declares that receiving sections play stereo: libwebrtc decodes Opus to mono unless the local
 * description says `stereo=1` (RFC 7587 §6.1).
 */
export function withStereoSlots(sdp: string): string {
  const [head = '', ...sections] = sdp.split(/(?=^m=)/m)
  return head + sections.map(withStereo).join('')
}

function withStereo(section: string): string {
  if (!section.startsWith('m=audio') || !/^a=recvonly\r?$/m.test(section)) return section
  const payload = /^a=rtpmap:(\d+) opus\//im.exec(section)?.[1]
  if (payload === undefined) return section
  const line = new RegExp(`^(a=fmtp:${payload} )(?!.*\\bstereo=)(.*?)(\\r?)$`, 'm')
  return section.replace(line, '$1$2;stereo=1$3')
}
