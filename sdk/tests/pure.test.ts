import { describe, expect, it } from 'vitest'
import { Backoff, backoffDelay } from '../src/backoff'
import { encodingsFor } from '../src/encodings'
import { deviceError, PlenumError } from '../src/errors'
import { Emitter } from '../src/emitter'
import { withStereoSlots } from '../src/sdp'
import { slotCodecs } from '../src/slot-codecs'
import { StatsReader } from '../src/stats'
import { signalUrl } from '../src/url'

describe('backoff', () => {
  it('waits 0, 0.3, 1.2, 2.7, 4.8, then 7 s, with jitter from the third try on', () => {
    expect([0, 1, 2, 3, 4, 5, 9].map((attempt) => backoffDelay(attempt, 0))).toEqual([0, 300, 1200, 2700, 4800, 7000, 7000])
    expect(backoffDelay(1, 0.99)).toBe(300)
    expect(backoffDelay(2, 0.5)).toBe(1700)
  })

  it('gives up after ten tries', () => {
    const backoff = new Backoff(0)
    const delays = Array.from({ length: 11 }, () => backoff.next(0, 0))
    expect(delays.slice(0, 10).every((delay) => delay !== undefined)).toBe(true)
    expect(delays[10]).toBeUndefined()
  })

  it('gives up when the next try would be later than a minute', () => {
    const backoff = new Backoff(0)
    for (let i = 0; i < 5; i += 1) backoff.next(0, 0)
    expect(backoff.next(52_000, 0)).toBe(7000)
    expect(backoff.next(54_000, 0)).toBeUndefined()
  })
})

describe('encodings', () => {
  it('sends a 720p camera in three layers, lowest first', () => {
    expect(encodingsFor('camera', 1280)).toEqual([
      { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
      { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
      { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_500_000 },
    ])
  })

  it('asks small pictures for no more layers than browsers send of them', () => {
    expect(encodingsFor('camera', 640).map(({ rid }) => rid)).toEqual(['q', 'h'])
    expect(encodingsFor('camera', 320)).toEqual([{ maxBitrate: 1_500_000 }])
  })

  it('shares a screen in two layers', () => {
    expect(encodingsFor('screen_share', 1920).map(({ scaleResolutionDownBy }) => scaleResolutionDownBy)).toEqual([2, 1])
  })

  it('takes the caller’s bitrate for the top layer', () => {
    expect(encodingsFor('camera', 1280, { maxBitrateBps: 3_000_000 }).map(({ maxBitrate }) => maxBitrate)).toEqual([150_000, 500_000, 3_000_000])
    expect(encodingsFor('camera', 1280, { simulcast: false, maxBitrateBps: 9 })).toEqual([{ maxBitrate: 9 }])
  })
})

describe('slot codecs', () => {
  const h264 = (mode: number, profile: string) => ({
    mimeType: 'video/H264',
    sdpFmtpLine: `level-asymmetry-allowed=1;packetization-mode=${mode};profile-level-id=${profile}`,
  })
  const named = (...types: string[]) => types.map((mimeType) => ({ mimeType }))

  it('offers what the server forwards, and of H264 the two usual variants', () => {
    const listed = [
      ...named('video/VP8', 'video/rtx'),
      ...['42001f', '42e01f', '4d001f', '64001f'].flatMap((profile) => [h264(1, profile), h264(0, profile)]),
      { mimeType: 'video/VP9', sdpFmtpLine: 'profile-id=2' },
      ...named('video/AV1', 'video/red', 'video/ulpfec', 'video/flexfec-03', 'video/H265'),
    ]
    expect(slotCodecs(listed)).toEqual([
      ...named('video/VP8', 'video/rtx'),
      h264(1, '42e01f'),
      h264(1, '64001f'),
      { mimeType: 'video/VP9', sdpFmtpLine: 'profile-id=2' },
      ...named('video/AV1'),
    ])
    expect(slotCodecs(named('audio/opus', 'audio/red', 'audio/G722', 'audio/PCMU', 'audio/CN'))).toEqual(
      named('audio/opus', 'audio/red'),
    )
  })

  it('keeps all of H264 where none is usual, and lives without it', () => {
    expect(slotCodecs([h264(0, '42e01f'), h264(1, '4d001f')])).toEqual([h264(0, '42e01f'), h264(1, '4d001f')])
    expect(slotCodecs(named('video/VP8', 'video/rtx'))).toEqual(named('video/VP8', 'video/rtx'))
  })
})

describe('stereo slots', () => {
  const section = (direction: string) =>
    `m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=${direction}\r\n`

  it('declares stereo on receiving audio sections only', () => {
    const sdp = `v=0\r\n${section('recvonly')}${section('sendonly')}m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\n`
    expect(withStereoSlots(sdp)).toBe(
      sdp.replace('useinbandfec=1\r\na=recvonly', 'useinbandfec=1;stereo=1\r\na=recvonly'),
    )
  })

  it('does so once', () => {
    const once = withStereoSlots(section('recvonly'))
    expect(withStereoSlots(once)).toBe(once)
  })
})

describe('addresses', () => {
  it('keeps host and path and turns http into ws', () => {
    expect(signalUrl('https://meet.example/app/')).toBe('wss://meet.example/app/v1/signal')
    expect(signalUrl('ws://127.0.0.1:8080')).toBe('ws://127.0.0.1:8080/v1/signal')
  })

  it('refuses what is no server', () => {
    for (const bad of ['', 'meet', 'ftp://x']) expect(() => signalUrl(bad)).toThrowError(PlenumError)
  })
})

describe('errors', () => {
  it('names device failures', () => {
    const named = (name: string) => deviceError(Object.assign(new Error('x'), { name })).code
    expect(named('NotAllowedError')).toBe('device_denied')
    expect(named('NotFoundError')).toBe('device_not_found')
    expect(named('NotReadableError')).toBe('device_in_use')
    expect(named('Strange')).toBe('device_failed')
  })

  it('knows what may work later', () => {
    expect(new PlenumError('connection_lost', '').retryable).toBe(true)
    expect(new PlenumError('unauthorized', '').retryable).toBe(false)
  })
})

describe('events', () => {
  class Bell extends Emitter<{ ring: [times: number] }> {
    ring(times: number): void {
      this.emit('ring', times)
    }
  }

  it('reach listeners until they unsubscribe', () => {
    const bell = new Bell()
    const heard: number[] = []
    const stop = bell.on('ring', (times) => heard.push(times))
    bell.once('ring', (times) => heard.push(-times))
    bell.ring(1)
    bell.ring(2)
    stop()
    bell.ring(3)
    expect(heard).toEqual([1, -1, 2])
  })
})

describe('statistics', () => {
  const inbound = (timestamp: number, bytes: number, lost: number, received: number) =>
    new Map<string, unknown>([
      ['I', { id: 'I', type: 'inbound-rtp', kind: 'video', timestamp, bytesReceived: bytes, packetsLost: lost, packetsReceived: received, jitter: 0.004, frameWidth: 640, frameHeight: 360, framesPerSecond: 30, codecId: 'C' }],
      ['C', { id: 'C', type: 'codec', timestamp, mimeType: 'video/VP8' }],
      ['P', { id: 'P', type: 'candidate-pair', timestamp, nominated: true, state: 'succeeded', currentRoundTripTime: 0.012 }],
    ])

  it('gives rates between two calls', () => {
    const reader = new StatsReader()
    expect(reader.read(inbound(1000, 0, 0, 0))?.bitrateBps).toBeUndefined()
    expect(reader.read(inbound(2000, 125_000, 5, 95))).toMatchObject({
      direction: 'in', codec: 'VP8', bitrateBps: 1_000_000, lossRatio: 0.05, jitterMs: 4, rttMs: 12, width: 640, fps: 30,
    })
  })

  it('adds up outgoing layers', () => {
    const layer = (id: string, rid: string, frameWidth: number, timestamp: number, bytesSent: number) => [id, { id, type: 'outbound-rtp', kind: 'video', rid, frameWidth, timestamp, bytesSent, active: true }] as const
    const reader = new StatsReader()
    reader.read(new Map<string, unknown>([layer('f', 'f', 1280, 0, 0), layer('q', 'q', 320, 0, 0)]))
    const stats = reader.read(new Map<string, unknown>([layer('f', 'f', 1280, 1000, 100_000), layer('q', 'q', 320, 1000, 25_000)]))
    expect(stats?.bitrateBps).toBe(1_000_000)
    expect(stats?.layers.map(({ rid }) => rid)).toEqual(['q', 'f'])
  })
})
