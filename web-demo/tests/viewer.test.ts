import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { grantsIn } from '../src/link'
import { refusalOf } from '../src/viewer/problems'
import { AUTO, qualityChoices, qualityLabel } from '../src/viewer/quality'
import { paceFor, Recovery } from '../src/viewer/recovery'
import { sentences } from '../src/viewer/say'
import { ServerClock } from '../src/viewer/server-clock'
import { askStatus, livePath, readStatus, StatusPoll } from '../src/viewer/status'
import type { StatusAnswer } from '../src/viewer/status'
import { latencyText, sinceText, viewersText } from '../src/viewer/words'

describe('polling', () => {
  let asked: number
  let told: string[]
  let answer: () => Promise<StatusAnswer>
  let isHidden: boolean
  let poll: StatusPoll

  beforeEach(() => {
    vi.useFakeTimers()
    asked = 0
    told = []
    isHidden = false
    answer = async () => ({ status: { state: 'none' } })
    poll = new StatusPoll({
      ask: () => {
        asked += 1
        return answer()
      },
      answered: (one) => told.push('status' in one ? one.status.state : 'denied'),
      failed: () => told.push('failed'),
      isHidden: () => isHidden,
      random: () => 0.5,
    })
  })

  afterEach(() => {
    poll.stop()
    vi.useRealTimers()
  })

  const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000)

  it('asks at once and every 5 s', async () => {
    poll.start()
    await pass(0)
    expect(told).toEqual(['none'])
    await pass(15.1)
    expect(asked).toBe(4)
  })

  it('asks more seldom when hidden, and at once when looked at again', async () => {
    isHidden = true
    poll.start()
    await pass(29)
    expect(asked).toBe(1)
    await pass(2)
    expect(asked).toBe(2)
    isHidden = false
    poll.now()
    await pass(5.1)
    expect(asked).toBe(4)
  })

  it('asks ever more seldom while no answer or a refusal comes, and recovers', async () => {
    answer = () => Promise.reject(new Error('no'))
    poll.start()
    await pass(9)
    expect(asked).toBe(1)
    await pass(2)
    expect(asked).toBe(2)
    answer = async () => ({ denied: { title: '', advice: '' } })
    await pass(600)
    expect(asked, 'once a minute by now').toBeLessThan(14)
    expect(told).toContain('failed')
    expect(told.at(-1)).toBe('denied')
    answer = async () => ({ status: { state: 'live' } })
    await pass(61)
    const before = asked
    await pass(10.1)
    expect(asked - before).toBe(2)
  })

  it('asks one question at a time, and tells nothing once stopped', async () => {
    let release = (_: StatusAnswer): void => {}
    answer = () => new Promise((resolve) => (release = resolve))
    poll.start()
    poll.now()
    await pass(60)
    expect(asked).toBe(1)
    poll.stop()
    release({ status: { state: 'live' } })
    await pass(60)
    expect([asked, told]).toEqual([1, []])
  })
})

describe('a status', () => {
  afterEach(() => vi.unstubAllGlobals())

  const heard = vi.fn()
  async function ask(status: number, body: unknown, headers: Record<string, string> = {}) {
    vi.stubGlobal('fetch', async () => new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers }))
    return await askStatus('r', 'T', heard)
  }

  it('is read with care', async () => {
    expect(readStatus({ state: 'live', viewers: 12, startedAt: 'A', more: 1 })).toEqual({ state: 'live', viewers: 12, startedAt: 'A' })
    expect(readStatus({ state: 'ended', viewers: -1, startedAt: 7 })).toEqual({ state: 'ended' })
    for (const bad of [undefined, null, [], 'live', {}, { state: 'odd' }]) expect(() => readStatus(bad)).toThrow()
  })

  it('follows from the answer', async () => {
    expect(await ask(200, { state: 'live' })).toEqual({ status: { state: 'live' } })
    expect(await ask(404, '<html>')).toEqual({ status: { state: 'none' } })
    expect(await ask(403, '')).toMatchObject({ denied: { title: 'This link does not open the broadcast' } })
    await expect(ask(502, '')).rejects.toThrow('502')
    await expect(ask(200, '<html>')).rejects.toThrow()
  })

  it('tells the time unless it comes out of a cache', async () => {
    heard.mockClear()
    await ask(200, { state: 'live' }, { date: 'D' })
    await ask(200, { state: 'live' }, { date: 'E', age: '3' })
    expect(heard.mock.calls.map(([date]) => date)).toEqual(['D'])
  })

  it('is asked for with the token', () => {
    expect(livePath('a b/c', 'index.m3u8', '')).toBe('/live/a%20b%2Fc/index.m3u8')
    expect(livePath('r', 'status.json', 'x&y')).toBe('/live/r/status.json?token=x%26y')
  })
})

describe('a refusal', () => {
  it('is said in words', () => {
    const title = (status: number, body: unknown, hasToken = true) => refusalOf(status, body, hasToken).title
    expect(title(403, { type: 'urn:plenum:too-many-sessions' })).toBe('You are watching in too many places')
    expect(title(429, { detail: 'too many sessions of this user' })).toBe('You are watching in too many places')
    expect(title(403, { code: 'limit_exceeded' })).toBe('You are watching in too many places')
    expect(title(429, { code: 'rate_limited' })).toBe('Too many attempts')
    expect(title(429, undefined)).toBe('Too many attempts')
    expect(title(401, { code: 'token_expired' })).toBe('This link has expired')
    expect(title(403, null)).toBe('This link does not open the broadcast')
    expect(title(403, null, false)).toBe('This broadcast is not open to everyone')
  })

  it('asks for another token where that could help', () => {
    expect(refusalOf(401, {}, false).asksForToken).toBe(true)
    expect(refusalOf(429, { detail: 'sessions' }, true).asksForToken).toBeUndefined()
  })
})

describe('the ladder', () => {
  const rung = (height: number, bitrate: number, frameRate = 30) => ({ height, bitrate, frameRate })

  it('is listed best first, each name once', () => {
    const rungs = [rung(180, 2e5), rung(720, 15e5), rung(720, 25e5), rung(0, 1e5, 0), rung(360, 5e5), rung(720, 3e6, 50)]
    expect(qualityChoices(rungs)).toEqual([
      { level: 5, text: '720p50' }, { level: 2, text: '720p' }, { level: 4, text: '360p' }, { level: 0, text: '180p' }, { level: 3, text: 'Sound only' },
    ])
    expect(qualityChoices([])).toEqual([])
    expect(qualityChoices([rung(720, 1, 29.97)])[0]!.text).toBe('720p')
  })

  it('is named on the button', () => {
    const rungs = [rung(360, 1), rung(720, 2)]
    expect(qualityLabel(rungs, AUTO, 1)).toBe('Auto (720p)')
    expect(qualityLabel(rungs, AUTO, -1)).toBe('Auto')
    expect(qualityLabel(rungs, 0, 1)).toBe('360p')
    expect(qualityLabel([], AUTO, AUTO)).toBe('Auto')
  })
})

describe('what is said', () => {
  it('is whole sentences in one line', () => {
    expect(sentences({ title: 'It ended', advice: 'Wait.' })).toBe('It ended. Wait.')
    expect(sentences({ title: 'Loading…', advice: 'Wait.' })).toBe('Loading… Wait.')
    expect([sentences({ title: 'Live.', advice: '' }), sentences({ title: '', advice: 'Click.' })]).toEqual(['Live.', 'Click.'])
  })
})

describe('figures', () => {
  it('read well', () => {
    expect([1.26, 0, -0.4, 9.97, 59.6, 150, undefined, NaN].map(latencyText)).toEqual([
      '1.3 s behind', '0.0 s behind', '0.0 s behind', '10 s behind', '1 min behind', '3 min behind', '', '',
    ])
    expect([viewersText(1), viewersText(12), viewersText(12_000)]).toEqual(['1 viewer', '12 viewers', '12,000 viewers'])
    const at = Date.parse('2026-11-26T20:00:00Z')
    expect(sinceText('2026-11-26T19:26:10Z', at)).toBe('on for 33 min')
    expect(sinceText('2026-11-26T17:56:00Z', at)).toBe('on for 2 h 4 min')
    expect(sinceText('2026-11-26T19:59:10Z', at)).toBe('')
    expect([sinceText(undefined, at), sinceText('soon', at), sinceText('2026-11-26T20:09:00Z', at)]).toEqual(['', '', ''])
  })
})

describe('the clock of the server', () => {
  /** Answers of a server whose clock is `aheadMs` ahead, asked at these times, each 40 ms on the way. */
  function ask(clock: ServerClock, aheadMs: number, ...times: number[]): void {
    for (const at of times) clock.note(new Date(Math.floor((at + 20 + aheadMs) / 1000) * 1000).toUTCString(), at, at + 40)
  }

  it('becomes known by and by', () => {
    const clock = new ServerClock()
    expect(clock.at(0)).toBeUndefined()
    ask(clock, 7300, 100_000)
    expect(clock.at(100_000), 'to a second only').toBeUndefined()
    ask(clock, 7300, 105_200, 110_400, 115_600, 120_800)
    expect(Math.abs(clock.at(130_000)! - 137_300)).toBeLessThan(150)
  })

  it('starts anew when a clock was set, and takes no nonsense', () => {
    const clock = new ServerClock()
    ask(clock, 0, 0, 5200, 10_400, 15_600, 20_800)
    for (const bad of [null, '', 'yesterday']) clock.note(bad, 0, 1)
    expect(clock.at(30_000)).toBeDefined()
    ask(clock, -60_000, 30_000)
    expect(clock.at(30_000)).toBeUndefined()
    ask(clock, -60_000, 35_200, 40_400, 45_600, 50_800)
    expect(Math.abs(clock.at(60_000)!)).toBeLessThan(150)
  })
})

describe('recovery', () => {
  it('gives the decoder two new starts, the network three, and other errors none', () => {
    const recovery = new Recovery()
    expect([0, 1000, 2000].map((at) => recovery.next('media', at))).toEqual(['media', 'swap', 'fail'])
    expect([0, 1, 2, 3].map((at) => recovery.next('network', at))).toEqual(['load', 'load', 'load', 'fail'])
    expect(recovery.next('other', 0)).toBe('fail')
  })

  it('forgets what is long ago', () => {
    const recovery = new Recovery()
    for (let at = 0; at < 600_000; at += 40_000) {
      expect(recovery.next('media', at)).toBe('media')
      expect(recovery.next('network', at)).toBe('load')
    }
  })

  it('jumps from where hls.js would not catch up, and never while held', () => {
    for (const [target, duration] of [[0.6, 3], [1, 2], [6, 2], [9, 3]] as const) {
      const { latencyMaxS, rateMax } = paceFor(target, duration, false)
      expect(latencyMaxS).toBeGreaterThan(target + 1)
      expect(latencyMaxS).toBeLessThanOrEqual(2 * target + duration)
      expect(rateMax).toBeGreaterThan(1)
    }
    expect(paceFor(0.6, 3, true)).toEqual({ latencyMaxS: Infinity, rateMax: 1 })
  })
})

describe('a token', () => {
  const token = (video: object) => `e30.${Buffer.from(JSON.stringify({ video })).toString('base64url')}.c2ln`

  it('opens the room itself only when it says so', () => {
    expect(grantsIn('r', token({ room: 'r', roomJoin: true }))).toEqual({ looksIn: true, writes: true })
    expect(grantsIn('r', token({ room: 'r', roomJoin: true, canSubscribe: false, canPublishData: false }))).toEqual({ looksIn: false, writes: false })
    for (const other of [token({ room: 'q', roomJoin: true }), token({ room: 'r' }), 'opaque', '']) {
      expect(grantsIn('r', other)).toEqual({ looksIn: false, writes: false })
    }
  })
})
