/** The two data channels of a stay: `reliable` (ordered) and `lossy` (unordered, sent once). */
import { PlenumError } from './errors'
import { parseMessage } from './framing'
import type { IncomingMessage } from './framing'

const BUFFERED_MAX_BYTES = 1024 * 1024 // reliable senders wait above this
const LOSSY_BUFFERED_MAX_BYTES = 64 * 1024 // what is older than this is worth nothing

/** Sends and receives whole messages. */
export class DataChannels {
  /** Called for each message received. */
  received: (message: IncomingMessage, reliable: boolean) => void = () => {}
  readonly #reliable: RTCDataChannel
  readonly #lossy: RTCDataChannel

  constructor(pc: RTCPeerConnection) {
    this.#reliable = this.#open(pc, 'reliable', { ordered: true })
    this.#lossy = this.#open(pc, 'lossy', { ordered: false, maxRetransmits: 0 })
  }

  /** Whether reliable messages can go out now. */
  get isOpen(): boolean {
    return this.#reliable.readyState === 'open'
  }

  /** Sends on the reliable channel, after waiting for room in its buffer. */
  async sendReliable(message: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<void> {
    const channel = this.#reliable
    if (channel.readyState === 'connecting') await happens(channel, 'open', signal)
    while (channel.bufferedAmount > BUFFERED_MAX_BYTES) {
      channel.bufferedAmountLowThreshold = BUFFERED_MAX_BYTES / 2
      await happens(channel, 'bufferedamountlow', signal)
    }
    if (channel.readyState !== 'open') throw closed()
    channel.send(message)
  }

  /** Sends on the lossy channel; false: dropped, because the path is slower than the sender. */
  sendLossy(message: Uint8Array<ArrayBuffer>): boolean {
    const channel = this.#lossy
    if (channel.readyState !== 'open' || channel.bufferedAmount > LOSSY_BUFFERED_MAX_BYTES) return false
    channel.send(message)
    return true
  }

  /** Ends both. */
  close(): void {
    this.received = () => {}
    this.#reliable.close()
    this.#lossy.close()
  }

  #open(pc: RTCPeerConnection, label: string, options: RTCDataChannelInit): RTCDataChannel {
    const channel = pc.createDataChannel(label, options)
    channel.binaryType = 'arraybuffer'
    channel.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return
      const message = parseMessage(new Uint8Array(data))
      if (message) this.received(message, label === 'reliable')
    }
    return channel
  }
}

function happens(channel: RTCDataChannel, name: 'open' | 'bufferedamountlow', signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      channel.removeEventListener(name, opened)
      channel.removeEventListener('close', ended)
      signal?.removeEventListener('abort', aborted)
      settle()
    }
    const opened = () => end(resolve)
    const ended = () => end(() => reject(closed()))
    const aborted = () => end(() => reject(new PlenumError('aborted', 'the call was aborted')))
    if (signal?.aborted) {
      aborted()
      return
    }
    channel.addEventListener(name, opened)
    channel.addEventListener('close', ended)
    signal?.addEventListener('abort', aborted)
  })
}

function closed(): PlenumError {
  return new PlenumError('connection_lost', 'the data channel is closed')
}
