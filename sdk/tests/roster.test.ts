import { describe, expect, it } from 'vitest'
import type { AdaptiveView } from '../src/adaptive'
import type { Playback } from '../src/audio'
import { LocalParticipant } from '../src/local-participant'
import type { LocalDelegate } from '../src/local-participant'
import type { Participant } from '../src/protocol'
import { Roster } from '../src/roster'

const person = (id: string): Participant => ({ id, identity: id, name: id, metadata: '', attributes: {}, tracks: [] })

/** A roster without tracks, and what it tells about who speaks. */
function roster() {
  const spoke: string[][] = []
  const local = new LocalParticipant({} as LocalDelegate)
  local.id = 'p_me'
  const one = new Roster(local, {} as Playback, {} as AdaptiveView, {
    emit: (name, ...args) => {
      if (name === 'activeSpeakers') spoke.push((args[0] as unknown as { id: string }[]).map(({ id }) => id))
    },
    request: async () => {},
    receiver: () => undefined,
  })
  for (const id of ['p_ann', 'p_bob']) one.apply({ t: 'joined', p: person(id) })
  return { one, spoke }
}

describe('a roster', () => {
  it('lists who speaks, loudest first', () => {
    const { one, spoke } = roster()
    one.apply({ t: 'speakers', levels: { p_bob: 0.4, p_me: 0.1, p_ann: 0.9 } })
    one.apply({ t: 'speakers', levels: { p_ann: 0 } })
    expect(spoke).toEqual([['p_ann', 'p_bob', 'p_me'], ['p_bob', 'p_me']])
  })

  it('holds nobody for a speaker while nothing is heard of them', () => {
    const { one, spoke } = roster()
    one.silence()
    expect(spoke).toEqual([])
    one.apply({ t: 'speakers', levels: { p_bob: 0.4, p_me: 0.1 } })
    one.silence()
    expect(spoke.at(-1)).toEqual([])
    expect(one.speakers).toEqual([])
    one.apply({ t: 'speakers', levels: { p_ann: 0.2 } })
    expect(spoke.at(-1)).toEqual(['p_ann'])
  })
})
