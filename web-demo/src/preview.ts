/** Camera and microphone before joining: opened for the preview, handed over when joining. */
import { openCamera, openMicrophone, PlenumError } from '@plenum/client'

export type DeviceSource = 'camera' | 'microphone'

/** Where one device stands. */
export type DeviceState =
  | { at: 'off' }
  | { at: 'opening' }
  | { at: 'on'; track: MediaStreamTrack }
  | { at: 'failed'; error: PlenumError }

/** One device of the preview. */
export class PreviewDevice {
  readonly source: DeviceSource
  readonly #changed: () => void
  #state: DeviceState = { at: 'off' }
  #opening: Promise<MediaStreamTrack | undefined> | undefined
  #isWanted = true
  #deviceId: string | undefined

  constructor(source: DeviceSource, changed: () => void) {
    this.source = source
    this.#changed = changed
    this.#deviceId = localStorage.getItem(`plenum.${source}`) ?? undefined
  }

  get state(): DeviceState {
    return this.#state
  }

  /** The person wants to join with it. */
  get isWanted(): boolean {
    return this.#isWanted
  }

  get deviceId(): string | undefined {
    return this.#deviceId
  }

  /** The track, as soon as there is one; `undefined`: there will be none. */
  get track(): Promise<MediaStreamTrack | undefined> {
    if (this.#state.at === 'on') return Promise.resolve(this.#state.track)
    return this.#opening ?? Promise.resolve(undefined)
  }

  /** Opens it, the chosen one or, when that is gone, any. */
  open(): Promise<MediaStreamTrack | undefined> {
    this.#isWanted = true
    this.#set({ at: 'opening' })
    this.#opening = this.#openChosen().then(
      (track) => {
        if (!this.#isWanted) {
          track.stop()
          return undefined
        }
        this.#set({ at: 'on', track })
        return track
      },
      (error: unknown) => {
        const known = error instanceof PlenumError ? error : new PlenumError('device_failed', String(error))
        this.#set({ at: 'failed', error: known })
        return undefined
      },
    )
    return this.#opening
  }

  /** Lets it go and joins without it. */
  close(): void {
    this.#isWanted = false
    if (this.#state.at === 'on') this.#state.track.stop()
    this.#set({ at: 'off' })
  }

  /** Lets the preview's own track go after the meeting took a copy of it. */
  release(): void {
    if (this.#state.at === 'on') this.#state.track.stop()
    else void this.#opening?.then((track) => track?.stop())
  }

  /** Chooses another one. */
  choose(deviceId: string): void {
    this.#deviceId = deviceId
    localStorage.setItem(`plenum.${this.source}`, deviceId)
    if (this.#state.at === 'on') this.#state.track.stop()
    void this.open()
  }

  async #openChosen(): Promise<MediaStreamTrack> {
    const open = this.source === 'camera' ? openCamera : openMicrophone
    if (this.#deviceId === undefined) return await open()
    try {
      return await open({ deviceId: this.#deviceId })
    } catch (error) {
      if (!(error instanceof PlenumError) || error.code === 'device_denied') throw error
      this.#deviceId = undefined
      return await open()
    }
  }

  #set(state: DeviceState): void {
    this.#state = state
    this.#changed()
  }
}
