/** As much of the browser's RTCPeerConnection as the SDK's peer touches, without media. */
import type { Answer } from '../src/generated/protocol'

export const CODECS = ['VP8', 'rtx', 'H264', 'VP9', 'AV1'].map((name) => ({ mimeType: `video/${name}`, clockRate: 90_000 }))

export class FakeTransceiver {
  mid: string | null = null
  currentDirection: string | null = null
  /** What `setCodecPreferences` was last told, by name. */
  preferences: string[] = []
  readonly receiver: { track: { kind: string } }
  readonly sender = { replaceTrack: async () => {} }
  direction: string

  constructor(kind: string, direction: string) {
    this.receiver = { track: { kind } }
    this.direction = direction
  }

  setCodecPreferences(codecs: readonly { mimeType: string }[]): void {
    this.preferences = codecs.map(({ mimeType }) => mimeType)
  }
}

export class FakePeerConnection {
  static last: FakePeerConnection
  readonly transceivers: FakeTransceiver[] = []
  readonly offers: { iceRestart?: boolean }[] = []
  onconnectionstatechange: (() => void) | null = null
  connectionState = 'new'
  signalingState = 'stable'
  localDescription: { sdp: string } | null = null

  constructor() {
    FakePeerConnection.last = this
  }

  createDataChannel(): object {
    return { close: () => {} }
  }

  addTransceiver(what: string | { kind: string }, { direction }: { direction: string }): FakeTransceiver {
    const transceiver = new FakeTransceiver(typeof what === 'string' ? what : what.kind, direction)
    this.transceivers.push(transceiver)
    return transceiver
  }

  async createOffer(options: { iceRestart?: boolean }): Promise<{ type: 'offer'; sdp: string }> {
    this.offers.push(options)
    return { type: 'offer', sdp: `v=0\r\no=- 1 ${this.offers.length} IN IP4 127.0.0.1\r\n` }
  }

  async setLocalDescription(description: { type: string; sdp?: string }): Promise<void> {
    this.signalingState = description.type === 'offer' ? 'have-local-offer' : 'stable'
    this.localDescription = { sdp: description.sdp ?? '' }
    this.transceivers.forEach((transceiver, index) => (transceiver.mid ??= String(index)))
  }

  async setRemoteDescription(): Promise<void> {
    this.signalingState = 'stable'
  }

  close(): void {
    this.signalingState = 'closed'
  }

  getStats(): Promise<Map<string, object>> {
    return Promise.resolve(new Map())
  }
}

/** A captured track of this kind. */
export function fakeTrack(kind: 'audio' | 'video'): MediaStreamTrack {
  const track = { kind, enabled: true, contentHint: '', getSettings: () => ({ width: 1280, height: 720 }), stop: () => {} }
  return track as unknown as MediaStreamTrack
}

/** The server takes everything: each published section becomes the track `t_<mid>`. */
export function answerAll(offer: { id: number; publish?: { mid: string }[] }): Answer {
  const published = (offer.publish ?? []).map(({ mid }) => ({ mid, track: `t_${mid}` }))
  return { id: offer.id, sdp: 'v=0', published, slots: {} }
}
