import { describe, expect, it } from 'vitest'
import { NOT_LOADED } from '../src/viewer/problems'
import { say } from '../src/viewer/say'
import { ViewerState } from '../src/viewer/state'
import type { Effect, Failure, ViewerEvent } from '../src/viewer/state'
import type { Status } from '../src/viewer/status'

const LIVE: Status = { state: 'live', viewers: 3, startedAt: 'A' }
const status = (state: Status['state'], startedAt?: string): ViewerEvent => ({ t: 'status', status: { state, ...(startedAt ? { startedAt } : {}) } })
const failed = (failure: Partial<Failure> = {}): ViewerEvent => ({ t: 'failed', failure: { problem: NOT_LOADED, ...failure } })
const live: ViewerEvent = { t: 'status', status: LIVE }
const PLAY: Effect = { t: 'play', mode: 'broadcast' }

/** A page that has seen these events. */
function after(canInstant: boolean, ...events: ViewerEvent[]) {
  const state = new ViewerState(canInstant)
  let effects: Effect[] = []
  for (const event of events) effects = state.apply(event)
  return { state, effects }
}

describe('without a token', () => {
  it('plays at once what runs, and by itself what begins later', () => {
    expect(after(false, live).effects).toEqual([PLAY])
    const { state } = after(false, status('none'), status('none'))
    expect(state.phase.at).toBe('waiting')
    expect(state.action).toBeUndefined()
    expect(state.apply(status('starting', 'A'))).toEqual([PLAY])
    expect(state.apply(live), 'once').toEqual([])
    state.apply({ t: 'playing' })
    expect(say(state).title).toBe('Live.')
  })

  it('never offers the room itself', () => {
    const { state } = after(false, status('none'))
    expect(state.apply({ t: 'choose', mode: 'instant' })).toEqual([])
    expect(state.apply({ t: 'watch' })).toEqual([])
    expect(state.hasChoice).toBe(false)
    expect(after(false, { t: 'unknown' }).state.phase.at).toBe('looking')
  })

  it('does not take what has ended for another one', () => {
    const { state, effects } = after(false, live, { t: 'playing' }, { t: 'ended' })
    expect(effects).toEqual([{ t: 'quit', mode: 'broadcast' }, { t: 'poll' }])
    expect(state.apply(live), 'a late answer').toEqual([])
    expect(state.phase.at).toBe('ended')
    state.apply(status('ended', 'A'))
    state.apply(status('none'))
    expect(say(state).title).toBe('The broadcast has ended')
    expect(state.apply(status('live', 'B'))).toEqual([PLAY])
  })

  it('does not wait for ever for the last of what has ended', () => {
    const { state, effects } = after(false, live, { t: 'playing' }, status('ended', 'A'), { t: 'stalled' })
    expect(effects).toEqual([])
    expect(state.apply(status('ended', 'A'))).toEqual([{ t: 'quit', mode: 'broadcast' }])
    expect(say(state).title).toBe('The broadcast has ended')
    expect(state.apply(status('live', 'B'))).toEqual([PLAY])
  })

  it('plays what is left of what has ended', () => {
    const { state } = after(false, live, { t: 'playing' }, { t: 'stalled' }, status('ended', 'A'))
    expect(state.phase.at, 'there may be more').toBe('playing')
    state.apply({ t: 'playing' })
    expect(state.apply(status('ended', 'A'))).toEqual([])
    expect(state.phase.at).toBe('playing')
  })

  it('goes on with the next one when that had begun before the end was seen', () => {
    const { state } = after(false, live, { t: 'playing' }, status('live', 'B'))
    expect(state.phase.at).toBe('playing')
    expect(state.apply({ t: 'ended' })).toEqual([{ t: 'quit', mode: 'broadcast' }, PLAY])
  })
})

describe('trouble', () => {
  it('is tried again later and later, and not for ever', () => {
    const { state } = after(false, live)
    const delays: number[] = []
    for (;;) {
      const effects = state.apply(failed())
      expect(effects[0]).toEqual({ t: 'quit', mode: 'broadcast' })
      const retry = effects.find((one) => one.t === 'retry')
      if (!retry) break
      delays.push(retry.afterMs)
      expect(state.apply({ t: 'due' })).toEqual([PLAY])
    }
    expect(delays).toEqual([1000, 2000, 4000, 8000, 15_000, 15_000])
    expect(state.phase).toMatchObject({ at: 'refused', problem: NOT_LOADED })
    expect(state.apply(live), 'as the person says').toEqual([])
    expect(state.action).toBe('again')
    expect(state.apply({ t: 'watch' })).toEqual([PLAY])
  })

  it('is forgotten after a steady while', () => {
    const { state } = after(false, live, failed(), { t: 'due' }, failed(), { t: 'due' }, { t: 'playing' }, { t: 'steady' })
    expect(state.apply(failed())).toContainEqual({ t: 'retry', afterMs: 1000 })
  })

  it('of a start is waited for as long as the server says', () => {
    const wait = (retryAfterS?: number) => after(false, live, failed({ status: 503, ...(retryAfterS === undefined ? {} : { retryAfterS }) }))
    expect(wait(4).effects).toEqual([{ t: 'quit', mode: 'broadcast' }, { t: 'retry', afterMs: 4000 }])
    expect(wait().effects[1]).toEqual({ t: 'retry', afterMs: 2000 })
    expect(wait(0).effects[1]).toEqual({ t: 'retry', afterMs: 1000 })
    expect(wait(86_400).effects[1]).toEqual({ t: 'retry', afterMs: 30_000 })
    expect(say(wait().state).title).toBe('The broadcast is starting…')
  })

  it('ends when the broadcast turns out to be over', () => {
    const { state, effects } = after(false, live, failed({ status: 404 }))
    expect(effects).toContainEqual({ t: 'poll' })
    state.apply(status('none'))
    expect(state.phase.at).toBe('waiting')
    expect(state.apply({ t: 'due' })).toEqual([])
  })

  it('that is a refusal stays until the person says so, or the broadcast is over', () => {
    const { state } = after(false, live, failed({ status: 429 }))
    expect(state.phase.at).toBe('refused')
    expect(state.apply(live)).toEqual([])
    state.apply(status('none'))
    expect(state.phase.at).toBe('waiting')
  })

  it('with the token is over as soon as the server answers otherwise', () => {
    const denied: ViewerEvent = { t: 'denied', problem: NOT_LOADED }
    const { state } = after(false, denied)
    expect(state.phase.at).toBe('refused')
    expect(state.apply(live)).toEqual([PLAY])
    expect(state.apply(denied), 'what plays goes on').toEqual([])
    expect(state.phase.at).toBe('loading')
  })

  it('of the status alone stops nothing', () => {
    const { state } = after(false, live, { t: 'playing' }, { t: 'unknown' }, status('none'))
    expect(state.phase.at).toBe('playing')
  })
})

describe('with a token', () => {
  it('the room is offered when no broadcast runs', () => {
    for (const event of [status('none'), { t: 'unknown' }, { t: 'denied', problem: NOT_LOADED }] as const) {
      const { state } = after(true, event)
      expect([state.mode, state.phase.at, state.action]).toEqual(['instant', 'offering', 'watch'])
      expect(state.apply({ t: 'watch' })).toEqual([{ t: 'play', mode: 'instant' }])
    }
  })

  it('a broadcast that begins is played, unless the room is watched or was stopped', () => {
    const begun = (...events: ViewerEvent[]) => after(true, status('none'), ...events, live).effects
    expect(begun()).toEqual([PLAY])
    expect(begun({ t: 'watch' }, { t: 'playing' })).toEqual([])
    expect(begun({ t: 'watch' }, { t: 'playing' }, { t: 'stop' })).toEqual([])
  })

  it('one goes from one to the other and back', () => {
    const { state } = after(true, live, { t: 'playing' })
    expect(state.hasChoice).toBe(true)
    expect(state.apply({ t: 'choose', mode: 'broadcast' })).toEqual([])
    expect(state.apply({ t: 'choose', mode: 'instant' })).toEqual([{ t: 'quit', mode: 'broadcast' }, { t: 'play', mode: 'instant' }])
    state.apply({ t: 'playing' })
    expect(state.apply({ t: 'choose', mode: 'broadcast' })).toEqual([{ t: 'quit', mode: 'instant' }, PLAY])
  })

  it('whoever chose the broadcast waits for it', () => {
    const { state } = after(true, status('none'), { t: 'choose', mode: 'broadcast' })
    expect(state.phase.at).toBe('waiting')
    expect(state.action).toBe('watch')
    expect(state.apply({ t: 'watch' })).toEqual([{ t: 'play', mode: 'instant' }])
  })

  it('a refused connection is not repeated by itself', () => {
    const { state, effects } = after(true, status('none'), { t: 'watch' }, failed())
    expect(effects).toEqual([{ t: 'quit', mode: 'instant' }])
    expect(state.action).toBe('again')
    expect(state.apply({ t: 'watch' })).toEqual([{ t: 'play', mode: 'instant' }])
  })

  it('stops on demand', () => {
    const { state } = after(true, status('none'), { t: 'watch' }, { t: 'playing' })
    expect(state.apply({ t: 'stop' })).toEqual([{ t: 'quit', mode: 'instant' }])
    expect(say(state).title).toBe('Stopped.')
    expect(state.apply({ t: 'stop' })).toEqual([])
    expect(state.apply({ t: 'playing' }), 'too late').toEqual([])
    expect(state.phase.at).toBe('offering')
  })
})
