/** The ways in which picture and sound can reach the server, and what it means which of them work. */

/** Every way, best first. */
export const WAYS = ['udp', 'turnUdp', 'tcp', 'turnTcp', 'turnTls'] as const
export type Way = (typeof WAYS)[number]

/** How it is with one way. */
export type Outcome =
  | { at: 'waiting' }
  | { at: 'works'; ms: number }
  /** `why` is for those who look after the network. */
  | { at: 'fails'; why: string }
  /** The server does not offer it. */
  | { at: 'absent' }

/** What was found so far. */
export interface Findings {
  /** The WebSocket that meetings are arranged over. */
  signal: Outcome
  ways: Record<Way, Outcome>
  /** Where each way leads, as `UDP port 7800 of 192.0.2.1`; empty until it is known. */
  places: Record<Way, string>
}

/** Before anything was tried. */
export function nothingYet(): Findings {
  const each = <T>(value: T): Record<Way, T> => ({ udp: value, turnUdp: value, tcp: value, turnTcp: value, turnTls: value })
  return { signal: { at: 'waiting' }, ways: each<Outcome>({ at: 'waiting' }), places: each('') }
}

/** The name of a way. */
export const NAMES: Readonly<Record<Way | 'signal', string>> = {
  signal: 'Signaling',
  udp: 'Direct over UDP',
  turnUdp: 'Relay over UDP',
  tcp: 'Direct over TCP',
  turnTcp: 'Relay over TCP',
  turnTls: 'Relay over TLS',
}

const PURPOSES: Readonly<Record<Way, string>> = {
  udp: 'The best way, used whenever it works.',
  turnUdp: 'Nearly as good, used where the direct way is blocked.',
  tcp: 'Used where UDP is blocked; pictures can freeze when the network is busy.',
  turnTcp: 'Used where UDP is blocked, and the direct way over TCP as well.',
  turnTls: 'The last resort: gets through networks that allow only web traffic.',
}

/** The entries for `RTCConfiguration.iceServers` in a `Link` header (RFC 9725 section 4.6), one for each address. */
export function readIceServers(links: string): RTCIceServer[] {
  const servers: RTCIceServer[] = []
  for (const [, url = '', parameters = ''] of links.matchAll(/<([^>]*)>([^<]*)/g)) {
    const parameter = (name: string): string | undefined => new RegExp(`;\\s*${name}="([^"]*)"`).exec(parameters)?.[1]
    const [username, credential] = [parameter('username'), parameter('credential')]
    if (parameter('rel') !== 'ice-server' || !/^turns?:/.test(url)) continue
    if (username !== undefined && credential !== undefined) servers.push({ urls: url, username, credential })
  }
  return servers
}

/** Those of the servers that a way uses; none for direct ways. */
export function serversFor(way: Way, servers: readonly RTCIceServer[]): RTCIceServer[] {
  const kinds: Partial<Record<Way, RegExp>> = {
    turnUdp: /^turn:(?!.*transport=tcp)/,
    turnTcp: /^turn:.*transport=tcp/,
    turnTls: /^turns:/,
  }
  const kind = kinds[way]
  return kind ? servers.filter(({ urls }) => kind.test(String(urls))) : []
}

/** Whether a way leads through a TURN server. */
export function isRelay(way: Way): boolean {
  return way !== 'udp' && way !== 'tcp'
}

const CANDIDATE = /^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) /i

/** An answer in which only candidates of one protocol are left. */
export function keepCandidates(sdp: string, protocol: 'udp' | 'tcp'): string {
  const isKept = (line: string): boolean => {
    const found = CANDIDATE.exec(line)?.[1]
    return found === undefined || found.toLowerCase() === protocol
  }
  return sdp.split('\r\n').filter(isKept).join('\r\n')
}

/** Where each way leads, by the answer and the TURN servers that came with it. */
export function placesOf(sdp: string, servers: readonly RTCIceServer[]): Record<Way, string> {
  const direct = (protocol: 'udp' | 'tcp'): string => {
    const found = sdp.split('\r\n').flatMap((line) => {
      const [, kind = '', address = '', port = ''] = CANDIDATE.exec(line) ?? []
      return kind.toLowerCase() === protocol ? [place(protocol, address, port)] : []
    })
    // Loopback is for whoever runs the server on the same machine.
    return found.find((one) => !/ of (127\.|::1$)/.test(one)) ?? found[0] ?? ''
  }
  const relay = (way: Way): string => {
    const url = String(serversFor(way, servers)[0]?.urls ?? '')
    const [, host = '', port = ''] = /^turns?:(\[[^\]]*\]|[^:?]*):?(\d*)/.exec(url) ?? []
    return host && place(way === 'turnUdp' ? 'udp' : 'tcp', host.replace(/[[\]]/g, ''), port || (way === 'turnTls' ? '5349' : '3478'))
  }
  return { udp: direct('udp'), tcp: direct('tcp'), turnUdp: relay('turnUdp'), turnTcp: relay('turnTcp'), turnTls: relay('turnTls') }
}

function place(protocol: string, host: string, port: string): string {
  return `${protocol.toUpperCase()} port ${port} of ${host}`
}

/** What it all comes to, in a few words for the person in front of the page. */
export interface Conclusion {
  tone: 'busy' | 'good' | 'fair' | 'bad'
  title: string
  advice: string
}

/** Says what the findings mean. */
export function conclude({ signal, ways, places }: Findings): Conclusion {
  const works = (way: Way): boolean => ways[way].at === 'works'
  const open = places.udp || 'UDP to this server'
  if (signal.at === 'waiting' || WAYS.some((way) => ways[way].at === 'waiting')) {
    return { tone: 'busy', title: 'Testing your connection…', advice: 'This takes up to eight seconds.' }
  }
  if (signal.at === 'fails') {
    return {
      tone: 'bad',
      title: 'Meetings cannot start here',
      advice: 'This page loads, but the connection that meetings are arranged over (a WebSocket) is cut off. A proxy or security software does that: ask for WebSockets to this server to be allowed, or try another network.',
    }
  }
  if (works('udp')) return { tone: 'good', title: 'Your connection is fine', advice: 'Picture and sound take the direct way.' }
  if (works('turnUdp')) {
    return {
      tone: 'good',
      title: 'Meetings work well here',
      advice: `Your network blocks the direct way, so picture and sound take a relay, which is nearly as good. There is nothing to do; the direct way would need ${open}.`,
    }
  }
  if (works('tcp') || works('turnTcp')) {
    return {
      tone: 'fair',
      title: 'Meetings work, but may look worse',
      advice: `Your network blocks UDP, so pictures can freeze when it is busy. Ask whoever runs it to open ${open}.`,
    }
  }
  if (works('turnTls')) {
    return {
      tone: 'fair',
      title: 'Meetings work, but may look worse',
      advice: `Your network allows only web traffic, so picture and sound travel disguised as such and can freeze when it is busy. Ask whoever runs it to open ${open}.`,
    }
  }
  const last = places.tcp ? `, or at least ${places.tcp}` : ''
  return {
    tone: 'bad',
    title: 'Picture and sound do not get through',
    advice: `Your network blocks every way to this server. Try another one, such as your phone’s, or switch a VPN off. Whoever runs the network can open ${open}${last}.`,
  }
}

/** What there is to say about one way. */
export function describe(way: Way, { ways, places }: Findings): string {
  const outcome = ways[way]
  switch (outcome.at) {
    case 'waiting':
      return 'Trying…'
    case 'works':
      return PURPOSES[way]
    case 'absent':
      return way === 'turnTls' ? 'This server does not offer it. Networks that allow only web traffic would need it.' : 'This server does not offer it.'
    case 'fails': {
      const isNeeded = !WAYS.slice(0, WAYS.indexOf(way)).some((better) => ways[better].at === 'works')
      const blocked = `${places[way] || 'The server'} cannot be reached from here.`
      return isNeeded ? blocked : `${blocked} It is not needed: a better way works.`
    }
  }
}

/** What there is to say about signaling. */
export function describeSignal(signal: Outcome): string {
  if (signal.at === 'works') return 'Meetings are arranged over it.'
  return signal.at === 'waiting' ? 'Trying…' : 'WebSockets to this server are cut off.'
}

/** All of it as text, to be passed on to whoever can help. */
export function report(findings: Findings, about: { server: string; browser: string; at: Date }): string {
  const line = (name: string, outcome: Outcome, where: string): string => {
    const how = { waiting: () => 'not tried yet', absent: () => 'not offered', works: (ms: number) => `works, ${ms} ms`, fails: () => 'does not work' }
    const text = outcome.at === 'works' ? how.works(outcome.ms) : how[outcome.at]()
    const why = outcome.at === 'fails' && outcome.why ? ` (${outcome.why})` : ''
    return `${name}: ${text}${why}${where && `, ${where}`}`
  }
  const { title } = conclude(findings)
  return [
    `Connection test of ${about.server}, ${about.at.toISOString()}`,
    title,
    line(NAMES.signal, findings.signal, ''),
    ...WAYS.map((way) => line(NAMES[way], findings.ways[way], findings.places[way])),
    about.browser,
  ].join('\n')
}
