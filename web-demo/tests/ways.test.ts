import { describe as group, expect, it } from 'vitest'
import { conclude, describe, keepCandidates, nothingYet, placesOf, readIceServers, report, serversFor, WAYS } from '../src/ways'
import type { Findings, Outcome, Way } from '../src/ways'

const LINKS = [
  'turn:192.0.2.1:3478?transport=udp', 'turn:[2001:db8::1]:3478?transport=udp', 'turn:192.0.2.1:7800?transport=tcp', 'turns:meet.example:443?transport=tcp',
].map((url) => `<${url}>; rel="ice-server"; username="1:ann:0"; credential="x/y="; credential-type="password"`)

const ANSWER = [
  'v=0', 'a=ice-lite', 'm=audio 7800 UDP/TLS/RTP/SAVPF 111',
  'a=candidate:1 1 udp 2130706431 127.0.0.1 7800 typ host', 'a=candidate:2 1 UDP 2130706175 192.0.2.1 7800 typ host',
  'a=candidate:3 1 tcp 1518280447 192.0.2.1 7801 typ host tcptype passive', 'a=end-of-candidates', '',
].join('\r\n')

/** Everything is as `works` says, or does not work. */
function found(works: readonly Way[], more: Partial<Record<Way, Outcome>> = {}): Findings {
  const findings = nothingYet()
  findings.signal = { at: 'works', ms: 20 }
  for (const way of WAYS) findings.ways[way] = works.includes(way) ? { at: 'works', ms: 90 } : { at: 'fails', why: 'no answer' }
  Object.assign(findings.ways, more)
  findings.places = placesOf(ANSWER, readIceServers(LINKS.join(', ')))
  return findings
}

group('TURN servers', () => {
  it('come out of the Link header', () => {
    const servers = readIceServers(LINKS.join(', '))
    expect(servers).toHaveLength(4)
    expect(servers[0]).toEqual({ urls: 'turn:192.0.2.1:3478?transport=udp', username: '1:ann:0', credential: 'x/y=' })
    const urls = (way: Way) => serversFor(way, servers).map(({ urls }) => urls)
    expect(urls('turnUdp')).toEqual(['turn:192.0.2.1:3478?transport=udp', 'turn:[2001:db8::1]:3478?transport=udp'])
    expect(urls('turnTcp')).toEqual(['turn:192.0.2.1:7800?transport=tcp'])
    expect(urls('turnTls')).toEqual(['turns:meet.example:443?transport=tcp'])
    expect(urls('udp')).toEqual([])
    expect(serversFor('turnUdp', [{ urls: 'turn:192.0.2.1' }])).toHaveLength(1)
  })

  it('are not made of other links', () => {
    for (const links of ['', '<https://a>; rel="next"', '<turn:a>; rel="ice-server"', '<stun:a>; rel="ice-server"; username="u"; credential="c"', 'turn:a']) {
      expect(readIceServers(links)).toEqual([])
    }
  })
})

group('an answer', () => {
  it('is left with candidates of one protocol', () => {
    const udp = keepCandidates(ANSWER, 'udp')
    expect(udp.match(/a=candidate/g)).toHaveLength(2)
    expect(udp).not.toContain('tcptype')
    expect(keepCandidates(ANSWER, 'tcp').match(/a=candidate.*/g)).toEqual(['a=candidate:3 1 tcp 1518280447 192.0.2.1 7801 typ host tcptype passive'])
    expect(udp.split('\r\n').length).toBe(ANSWER.split('\r\n').length - 1)
  })

  it('says where each way leads', () => {
    expect(placesOf(ANSWER, readIceServers(LINKS.join(', ')))).toEqual({
      udp: 'UDP port 7800 of 192.0.2.1',
      tcp: 'TCP port 7801 of 192.0.2.1',
      turnUdp: 'UDP port 3478 of 192.0.2.1',
      turnTcp: 'TCP port 7800 of 192.0.2.1',
      turnTls: 'TCP port 443 of meet.example',
    })
    expect(placesOf('v=0\r\n', [])).toEqual({ udp: '', tcp: '', turnUdp: '', turnTcp: '', turnTls: '' })
    const onlyLoopback = ANSWER.replaceAll('192.0.2.1', '127.0.0.1')
    expect(placesOf(onlyLoopback, []).udp).toBe('UDP port 7800 of 127.0.0.1')
    expect(placesOf('', [{ urls: 'turn:[2001:db8::1]' }]).turnUdp).toBe('UDP port 3478 of 2001:db8::1')
  })
})

group('the conclusion', () => {
  it('follows from the best way that works', () => {
    const cases: [Way[], string, RegExp][] = [
      [['udp', 'turnUdp', 'tcp', 'turnTcp', 'turnTls'], 'good', /fine/],
      [['udp'], 'good', /fine/],
      [['turnUdp', 'tcp'], 'good', /work well/],
      [['tcp', 'turnTcp', 'turnTls'], 'fair', /may look worse/],
      [['turnTcp'], 'fair', /may look worse/],
      [['turnTls'], 'fair', /may look worse/],
      [[], 'bad', /do not get through/],
    ]
    for (const [works, tone, title] of cases) {
      const conclusion = conclude(found(works))
      expect(conclusion.tone, works.join()).toBe(tone)
      expect(conclusion.title).toMatch(title)
    }
  })

  it('names what to open', () => {
    expect(conclude(found(['tcp'])).advice).toContain('Ask whoever runs it to open UDP port 7800 of 192.0.2.1.')
    expect(conclude(found(['turnTls'])).advice).toContain('only web traffic')
    expect(conclude(found([])).advice).toContain('UDP port 7800 of 192.0.2.1, or at least TCP port 7801 of 192.0.2.1')
    const unknown = { ...found([]), places: nothingYet().places }
    expect(conclude(unknown).advice).toContain('open UDP to this server.')
  })

  it('waits for all, and needs signaling', () => {
    expect(conclude(nothingYet()).tone).toBe('busy')
    expect(conclude(found(['udp'], { turnTls: { at: 'waiting' } })).tone).toBe('busy')
    const cutOff = { ...found(['udp']), signal: { at: 'fails', why: '' } as const }
    expect(conclude(cutOff)).toMatchObject({ tone: 'bad', title: 'Meetings cannot start here' })
  })
})

group('a way', () => {
  it('that fails matters only while no better one works', () => {
    expect(describe('turnUdp', found(['udp']))).toBe('UDP port 3478 of 192.0.2.1 cannot be reached from here. It is not needed: a better way works.')
    expect(describe('udp', found(['tcp']))).toBe('UDP port 7800 of 192.0.2.1 cannot be reached from here.')
    expect(describe('turnTls', found([], { turnTls: { at: 'absent' } }))).toMatch(/does not offer it/)
    expect(describe('tcp', nothingYet())).toBe('Trying…')
  })
})

it('the report says everything', () => {
  const findings = found(['tcp'], { turnTls: { at: 'absent' } })
  const text = report(findings, { server: 'meet.example', browser: 'Browser 1', at: new Date(0) })
  expect(text.split('\n')).toEqual([
    'Connection test of meet.example, 1970-01-01T00:00:00.000Z',
    'Meetings work, but may look worse',
    'Signaling: works, 20 ms',
    'Direct over UDP: does not work (no answer), UDP port 7800 of 192.0.2.1',
    'Relay over UDP: does not work (no answer), UDP port 3478 of 192.0.2.1',
    'Direct over TCP: works, 90 ms, TCP port 7801 of 192.0.2.1',
    'Relay over TCP: does not work (no answer), TCP port 7800 of 192.0.2.1',
    'Relay over TLS: not offered, TCP port 443 of meet.example',
    'Browser 1',
  ])
})
