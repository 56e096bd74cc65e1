import { PlenumError } from '@plenum/client'
import { describe, expect, it } from 'vitest'
import { explain, explainDevice } from '../src/errors'
import { bitrate, percent } from '../src/format'
import { isGuestToken, linkForOthers, nameInToken, opensItsRoom, readInvitation, roomInToken, withoutToken } from '../src/link'
import { parseMetrics, ratePerSecond } from '../src/metrics-text'
import { hueOf, initials } from '../src/names'

const token = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`

describe('the join link', () => {
  it('names room and token', () => {
    expect(readInvitation('?room=a%20b&token=x.y.z')).toEqual({ room: 'a b', token: 'x.y.z' })
    expect(readInvitation('')).toEqual({ room: '', token: '' })
  })

  it('loses its token and keeps the rest', () => {
    expect(withoutToken('https://h/?room=r&token=secret&x=1#top')).toBe('/?room=r&x=1#top')
  })

  it('is passed on with the token only when that is a guest token', () => {
    const guest = token({ plenum: { guest: true } })
    expect(linkForOthers('https://h', { room: 'r', token: guest })).toBe(`https://h/?room=r&token=${guest}`)
    expect(linkForOthers('https://h', { room: 'r', token: token({ sub: 'ann' }) })).toBe('https://h/?room=r')
  })

  it('opens no other room than the one it names', () => {
    const forRed = token({ video: { room: 'red' } })
    expect(opensItsRoom({ room: 'red', token: forRed })).toBe(true)
    expect(opensItsRoom({ room: '', token: forRed })).toBe(true)
    expect(opensItsRoom({ room: 'blue', token: forRed })).toBe(false)
    // What cannot be read is left to the server to refuse.
    expect(opensItsRoom({ room: 'blue', token: 'no-token' })).toBe(true)
    expect(opensItsRoom({ room: 'blue', token: token({ video: { room: 7 } }) })).toBe(true)
  })

  it('survives tokens that are none', () => {
    for (const bad of ['', 'x', 'a.b.c', token([]), `x.${Buffer.from('null').toString('base64url')}.x`]) {
      expect(isGuestToken(bad)).toBe(false)
      expect(nameInToken(bad)).toBe('')
      expect(roomInToken(bad)).toBe('')
    }
    expect(nameInToken(token({ sub: 'ann', name: 'Ann Ä' }))).toBe('Ann Ä')
    expect(roomInToken(token({ video: { room: 'r' } }))).toBe('r')
  })
})

describe('names', () => {
  it('make initials', () => {
    expect(initials('Ada Lovelace')).toBe('AL')
    expect(initials('  maria ')).toBe('M')
    expect(initials('guest-x7')).toBe('GX')
    expect(initials('')).toBe('?')
    expect(initials('🦊 fox')).toBe('🦊F')
  })

  it('keep their colour', () => {
    expect(hueOf('ann')).toBe(hueOf('ann'))
    expect(hueOf('ann')).toBeLessThan(360)
  })
})

describe('figures', () => {
  it('read well', () => {
    expect(bitrate(1_420_000)).toBe('1.42 Mbit/s')
    expect(bitrate(150_400)).toBe('150 kbit/s')
    expect(bitrate(undefined)).toBe('–')
    expect(percent(0.0123)).toBe('1.2 %')
  })

  it('come out of the Prometheus text', () => {
    const text = [
      '# HELP plenum_rooms Rooms.', '# TYPE plenum_rooms gauge', 'plenum_rooms 3',
      '# TYPE plenum_packets_total counter', 'plenum_packets_total{direction="in"} 1e3', 'plenum_packets_total{direction="out"} 7',
      '# TYPE plenum_join_seconds histogram', 'plenum_join_seconds_bucket{le="1"} 2', 'plenum_join_seconds_count 2', 'nonsense', '',
    ].join('\n')
    const metrics = parseMetrics(text)
    expect(metrics.map(({ name, type, samples }) => [name, type, samples.length])).toEqual([
      ['plenum_rooms', 'gauge', 1], ['plenum_packets_total', 'counter', 2], ['plenum_join_seconds', 'histogram', 2],
    ])
    expect(metrics[1]!.samples[0]).toEqual({ name: 'plenum_packets_total', labels: 'direction="in"', value: 1000 })
  })

  it('have no rate across a restart', () => {
    expect(ratePerSecond(150, 100, 2000)).toBe(25)
    expect(ratePerSecond(5, 100, 2000)).toBeUndefined()
    expect(ratePerSecond(5, undefined, 2000)).toBeUndefined()
  })
})

describe('explanations', () => {
  it('exist for what happens and fall back to the message', () => {
    expect(explain(new PlenumError('token_expired', 'x')).title).toBe('This link has expired')
    expect(explain(new PlenumError('brand_new', 'details')).advice).toBe('details')
    expect(explainDevice('camera and microphone', new PlenumError('device_denied', ''))).toMatch(/^Your camera and microphone are blocked. Allow them in/)
    expect(explainDevice('camera', new PlenumError('device_denied', ''))).toMatch(/^Your camera is blocked. Allow it in/)
  })
})
