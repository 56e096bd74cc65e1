import { describe, expect, it } from 'vitest'
import { PlenumError } from '../src/errors'
import { LocalParticipant } from '../src/local-participant'
import type { LocalPublication } from '../src/local-publication'
import type { Request, Source } from '../src/protocol'

/** A captured track that can end and be heard of. */
function captured(kind: 'audio' | 'video'): MediaStreamTrack {
  const track = Object.assign(new EventTarget(), { kind, enabled: true, stopped: false, readyState: 'live', getSettings: () => ({}) })
  return Object.assign(track, { stop: () => (track.stopped = true) }) as unknown as MediaStreamTrack
}

/** A participant whose publications are announced at once, and what it asks for and tells. */
function participant() {
  const asked: Request[] = []
  const told: string[] = []
  let isDown = false
  const note = (what: string) => (publication: LocalPublication) => void told.push(`${what} ${publication.source}`)
  const local = new LocalParticipant({
    publish: async (publication) => void publication.accepted(`t_${publication.source}`),
    unpublish: note('unpublish'),
    request: async (request) => {
      if (isDown) throw new PlenumError('connection_lost', 'down')
      asked.push(request)
    },
    send: async () => {},
    published: () => {},
    unpublished: () => {},
    changed: note('changed'),
    mutedByRoom: note('muted by room'),
    deviceFailed: () => {},
  })
  const mute = (source: Source, muted: boolean) => local.follow({ t: 'track', track: `t_${source}`, patch: { muted } })
  return { local, asked, told, mute, fail: (down: boolean) => (isDown = down) }
}

describe('a local participant', () => {
  it('is muted when the room mutes it, tells so once, and can unmute itself', async () => {
    const { local, asked, told, mute } = participant()
    const track = captured('audio')
    await local.publish(track, { source: 'microphone' })
    await mute('microphone', true)
    await mute('microphone', true)
    expect(told).toEqual(['changed microphone', 'muted by room microphone'])
    expect([local.isMicrophoneEnabled, track.enabled]).toEqual([false, false])
    await local.setMicrophoneEnabled(true)
    expect([local.isMicrophoneEnabled, track.enabled]).toEqual([true, true])
    expect(asked.at(-1)).toEqual({ t: 'track', track: 't_microphone', muted: false })
  })

  it('has something to tell only while the room does not know', async () => {
    const { local, asked, mute } = participant()
    const publication = await local.publish(captured('audio'), { source: 'microphone' })
    expect(publication.mutedToTell).toBeUndefined()
    await local.setMicrophoneEnabled(false)
    expect([publication.mutedToTell, asked.length]).toEqual([undefined, 1])
    // Muted by the room while the socket was down: that is news, and nothing to tell.
    await local.setMicrophoneEnabled(true)
    expect([publication.isMutedAnew(true), publication.isMutedAnew(false)]).toEqual([true, false])
    await mute('microphone', true)
    expect([publication.mutedToTell, publication.muted]).toEqual([undefined, true])
  })

  it('has its own switch still to tell when the socket was down', async () => {
    const { local, fail } = participant()
    const publication = await local.publish(captured('audio'), { source: 'microphone' })
    fail(true)
    await local.setMicrophoneEnabled(false)
    expect(publication.mutedToTell).toBe(true)
    // The room says what it knew before: no news, and it does not switch it on again.
    expect(publication.isMutedAnew(false)).toBe(false)
  })

  it('stays muted when the room unmutes it, and says that it is', async () => {
    const { local, asked, told, mute } = participant()
    await local.publish(captured('audio'), { source: 'microphone', muted: true })
    await mute('microphone', false)
    expect(local.isMicrophoneEnabled).toBe(false)
    expect(asked).toEqual([{ t: 'track', track: 't_microphone', muted: true }])
    expect(told).toEqual([])
  })

  it('stops a screen that the room muted', async () => {
    const { local, told, mute } = participant()
    await local.publish(captured('video'), { source: 'screen_share' })
    await mute('screen_share', true)
    expect(local.isScreenShareEnabled).toBe(false)
    expect(told).toEqual(['unpublish screen_share', 'muted by room screen_share'])
  })

  it('lets go of a device whose track the server ended', async () => {
    const { local } = participant()
    const track = captured('video')
    await local.publish(track, { source: 'camera' })
    await local.follow({ t: 'unpublished', id: '', track: 't_camera' })
    expect(local.publications).toEqual([])
    expect(track).toMatchObject({ stopped: true })
    await local.follow({ t: 'unpublished', id: '', track: 't_camera' })
  })

  it('describes a track to others', async () => {
    const { local, asked } = participant()
    const publication = await local.publish(captured('video'), { source: 'camera', name: 'desk' })
    await local.describe(publication, { name: 'board', meta: '{"seat":3}' })
    expect([publication.name, publication.meta]).toEqual(['board', '{"seat":3}'])
    expect(asked).toEqual([{ t: 'track', track: 't_camera', name: 'board', meta: '{"seat":3}' }])
  })
})
