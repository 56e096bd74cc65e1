/** Plays elements within the browser's autoplay rules and on the chosen loudspeaker. */

/** Keeps track of the elements that a browser refused to start without a gesture. */
export class Playback {
  readonly #elements = new Set<HTMLMediaElement>()
  readonly #blocked = new Set<HTMLMediaElement>()
  readonly #changed: (canPlay: boolean) => void
  #sinkId: string | undefined

  constructor(changed: (canPlay: boolean) => void) {
    this.#changed = changed
  }

  /** False: sound waits for a gesture; call {@link start} inside one. */
  get canPlay(): boolean {
    return this.#blocked.size === 0
  }

  /** Starts an element that has just got a stream. */
  play(element: HTMLMediaElement): void {
    this.#elements.add(element)
    if (this.#sinkId !== undefined) void setSink(element, this.#sinkId).catch(() => {})
    element.play().then(
      () => this.#unblock(element),
      (error: unknown) => {
        // Anything else (the stream was taken away again, for one) is not the browser's refusal.
        if (error instanceof DOMException && error.name === 'NotAllowedError') this.#block(element)
      },
    )
  }

  /** Forgets an element. */
  release(element: HTMLMediaElement): void {
    this.#elements.delete(element)
    this.#unblock(element)
  }

  /** Starts everything that waits; call it inside a click or key handler. */
  async start(): Promise<void> {
    await Promise.all(
      [...this.#blocked].map(async (element) => {
        await element.play()
        this.#unblock(element)
      }),
    )
  }

  /** Moves all sound to a loudspeaker. */
  async setSink(deviceId: string): Promise<void> {
    this.#sinkId = deviceId
    await Promise.all([...this.#elements].map((element) => setSink(element, deviceId)))
  }

  #block(element: HTMLMediaElement): void {
    const before = this.canPlay
    this.#blocked.add(element)
    if (before) this.#changed(false)
  }

  #unblock(element: HTMLMediaElement): void {
    if (this.#blocked.delete(element) && this.canPlay) this.#changed(true)
  }
}

async function setSink(element: HTMLMediaElement, deviceId: string): Promise<void> {
  if ('setSinkId' in element) await element.setSinkId(deviceId)
}
