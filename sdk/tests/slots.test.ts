import { describe, expect, it } from 'vitest'
import { isReached, SlotMap } from '../src/slots'

describe('the slot map', () => {
  it('fills, re-points and clears slots', () => {
    const slots = new SlotMap()
    expect(slots.apply({ '3': { track: 't_a' } })).toEqual([{ kind: 'filled', mid: '3', track: 't_a', ts: undefined }])
    expect(slots.apply({ '3': { track: 't_b', ts: 9 } })).toEqual([
      { kind: 'cleared', mid: '3', track: 't_a' },
      { kind: 'filled', mid: '3', track: 't_b', ts: 9 },
    ])
    expect(slots.apply({ '3': null })).toEqual([{ kind: 'cleared', mid: '3', track: 't_b' }])
    expect(slots.trackOn('3')).toBeUndefined()
  })

  it('says nothing about a slot that keeps its track', () => {
    const slots = new SlotMap()
    slots.apply({ '3': { track: 't_a' }, '4': null })
    expect(slots.apply({ '3': { track: 't_a', ts: 5 }, '4': null })).toEqual([])
  })

  it('lets two tracks trade places, clearing before filling', () => {
    const slots = new SlotMap()
    slots.apply({ '3': { track: 't_a' }, '4': { track: 't_b' } })
    const steps = slots.apply({ '3': { track: 't_b' }, '4': { track: 't_a' } })
    expect(steps.map(({ kind }) => kind)).toEqual(['cleared', 'cleared', 'filled', 'filled'])
    expect(slots.midOf('t_a')).toBe('4')
    expect(slots.midOf('t_b')).toBe('3')
  })

  it('moves a track whose old slot was not named', () => {
    const slots = new SlotMap()
    slots.apply({ '3': { track: 't_a' } })
    slots.apply({ '4': { track: 't_a' } })
    expect(slots.trackOn('3')).toBeUndefined()
    expect(slots.midOf('t_a')).toBe('4')
  })

  it('replaces the whole map by an answer’s', () => {
    const slots = new SlotMap()
    slots.apply({ '3': { track: 't_a' }, '4': { track: 't_b' } })
    expect(slots.replace({ '4': { track: 't_b' } })).toEqual([{ kind: 'cleared', mid: '3', track: 't_a' }])
  })
})

describe('the first frame of a slot’s new track', () => {
  it('is the first with its timestamp or later', () => {
    expect(isReached(99, 100)).toBe(false)
    expect(isReached(100, 100)).toBe(true)
    expect(isReached(101, 100)).toBe(true)
  })

  it('is found across the wrap at 2^32', () => {
    expect(isReached(5, 0xffff_fff0)).toBe(true)
    expect(isReached(0xffff_ffe0, 5)).toBe(false)
  })
})
