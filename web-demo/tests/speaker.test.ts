import { expect, it } from 'vitest'
import { chooseMain, HOLD_MS } from '../src/speaker'
import type { Candidate } from '../src/speaker'

const candidate = (set: Partial<Candidate> = {}): Candidate => ({ isLocal: false, isScreen: false, isSpeaking: false, spokeAt: 0, ...set })

it('shows others before oneself, and oneself when alone', () => {
  const me = candidate({ isLocal: true, isSpeaking: true, spokeAt: 9 })
  const other = candidate()
  expect(chooseMain([me, other], undefined, 10)).toBe(other)
  expect(chooseMain([me, other], me, 10)).toBe(other)
  expect(chooseMain([me], undefined, 10)).toBe(me)
  expect(chooseMain([], undefined, 10)).toBeUndefined()
})

it('shows the screen of another before all', () => {
  const speaker = candidate({ isSpeaking: true, spokeAt: 9 })
  const screen = candidate({ isScreen: true })
  expect(chooseMain([speaker, screen], speaker, 10)).toBe(screen)
  // Once it is gone the speaker is back.
  expect(chooseMain([speaker], screen, 10)).toBe(speaker)
})

it('does not flap when several speak', () => {
  const ann = candidate({ isSpeaking: true, spokeAt: 1000 })
  const ben = candidate({ isSpeaking: true, spokeAt: 1200 })
  expect(chooseMain([ann, ben], ann, 1300)).toBe(ann)
  expect(chooseMain([ann, ben], ben, 1300)).toBe(ben)
  ann.isSpeaking = false
  ann.spokeAt = 2000
  expect(chooseMain([ann, ben], ann, 2000 + HOLD_MS - 1)).toBe(ann)
  expect(chooseMain([ann, ben], ann, 2000 + HOLD_MS)).toBe(ben)
})

it('stays with who spoke last until somebody else speaks', () => {
  const ann = candidate({ spokeAt: 1000 })
  const ben = candidate({ spokeAt: 2000 })
  expect(chooseMain([ann, ben], ann, 1_000_000)).toBe(ann)
  expect(chooseMain([ann, ben], undefined, 1_000_000)).toBe(ben)
  const silent = candidate()
  const talker = candidate({ isSpeaking: true, spokeAt: 100 })
  expect(chooseMain([silent, talker], silent, 100)).toBe(talker)
})
