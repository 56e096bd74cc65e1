import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { isForwarded, withFirst } from '../src/codecs'
import type { OfferMessage } from '../src/generated/protocol'
import { LocalPublication } from '../src/local-publication'
import type { PublishOptions } from '../src/local-publication'
import { Peer } from '../src/peer'
import { answerAll, CODECS, FakePeerConnection, fakeTrack } from './fake-peer-connection'

describe('a peer', () => {
  let offers: OfferMessage[]
  let peer: Peer
  let nextId: number

  beforeEach(() => {
    vi.stubGlobal('RTCPeerConnection', FakePeerConnection)
    vi.stubGlobal('RTCRtpReceiver', { getCapabilities: () => ({ codecs: CODECS }) })
    offers = []
    nextId = 1
    peer = new Peer({}, {
      takeId: () => nextId++,
      offer: async (offer) => {
        offers.push(offer)
        return answerAll(offer)
      },
      incomplete: () => {},
      transportChanged: () => {},
      failed: () => {},
    })
  })

  afterEach(() => {
    peer.close()
    vi.unstubAllGlobals()
  })

  async function publish(kind: 'audio' | 'video', options: PublishOptions = {}) {
    const publication = new LocalPublication(fakeTrack(kind), options)
    peer.add(publication)
    peer.negotiate()
    await publication.published
    const transceiver = FakePeerConnection.last.transceivers.find(({ mid }) => mid === publication.mid)!
    return { publication, transceiver }
  }

  const offered = async (count: number) => {
    await vi.waitFor(() => expect(offers).toHaveLength(count))
    return offers.at(-1)!
  }

  it('offers a publication anew in the codec the room asks for', async () => {
    const { publication, transceiver } = await publish('video', { codec: 'h264' })
    expect(transceiver.preferences[0]).toBe('video/H264')
    expect(offers[0]!.publish![0]).toMatchObject({ codec: 'h264', source: 'camera' })
    peer.preferCodec(publication.id!, 'vp8')
    const again = await offered(2)
    expect(transceiver.preferences).toEqual(['video/VP8', 'video/rtx', 'video/H264', 'video/VP9', 'video/AV1'])
    expect(again.publish, 'it is the same publication still').toEqual([])
  })

  it('keeps to that codec when it publishes anew on another connection', async () => {
    const { publication } = await publish('video')
    peer.preferCodec(publication.id!, 'vp8')
    await offered(2)
    const next = new Peer({}, {
      takeId: () => nextId++,
      offer: async (offer) => answerAll(offer),
      incomplete: () => {},
      transportChanged: () => {},
      failed: () => {},
    })
    next.add(publication)
    expect((await next.firstOffer()).publish![0]).toMatchObject({ codec: 'vp8' })
    next.close()
  })

  it('does nothing about a track it does not publish', async () => {
    await publish('video')
    peer.preferCodec('t_elsewhere', 'vp8')
    await Promise.resolve()
    expect(offers).toHaveLength(1)
  })

  it('says how sound is meant', async () => {
    await publish('audio', { stereo: true, dtx: true })
    expect(offers[0]!.publish![0]).toMatchObject({ source: 'microphone', stereo: true, dtx: true })
    await publish('audio')
    expect(offers[1]!.publish![0]).not.toHaveProperty('stereo')
  })

  it('tells more of a publication that was muted while it was announced', async () => {
    const told: LocalPublication[] = []
    const publication = new LocalPublication(fakeTrack('audio'), {})
    const late = new Peer({}, {
      takeId: () => nextId++,
      offer: async (offer) => {
        await publication.mute()
        return answerAll(offer)
      },
      incomplete: (one) => told.push(one),
      transportChanged: () => {},
      failed: () => {},
    })
    late.add(publication)
    late.negotiate()
    await publication.published
    expect(told).toEqual([publication])
    late.close()
  })
})

describe('a receive slot', () => {
  it('is offered with what the server forwards, and with nothing else', () => {
    const offered = (mimeType: string, sdpFmtpLine?: string) => isForwarded({ mimeType, ...(sdpFmtpLine ? { sdpFmtpLine } : {}) })
    for (const name of ['audio/opus', 'audio/red', 'video/VP8', 'video/rtx', 'video/AV1']) expect(offered(name), name).toBe(true)
    for (const name of ['audio/G722', 'audio/PCMU', 'audio/telephone-event', 'video/ulpfec', 'video/flexfec-03', 'video/red']) {
      expect(offered(name), name).toBe(false)
    }
    expect(offered('video/VP9', 'profile-id=0')).toBe(true)
    expect(offered('video/VP9', 'profile-id=2')).toBe(true)
    expect(offered('video/VP9', 'profile-id=1')).toBe(false)
    expect(offered('video/AV1', 'level-idx=5;profile=1;tier=0')).toBe(false)
    expect(offered('video/H264', 'packetization-mode=1;profile-level-id=42e01f')).toBe(true)
    expect(offered('video/H264', 'packetization-mode=1;profile-level-id=f4001f')).toBe(false)
  })
})

describe('the order of codecs', () => {
  it('has the wanted one first, in all its variants, and the others as they were', () => {
    const names = ['VP8', 'H264', 'rtx', 'h264', 'AV1'].map((name) => ({ mimeType: `video/${name}` }))
    expect(withFirst(names, 'h264').map(({ mimeType }) => mimeType)).toEqual([
      'video/H264', 'video/h264', 'video/VP8', 'video/rtx', 'video/AV1',
    ])
    expect(withFirst(names, 'vp9')).toEqual(names)
  })
})
