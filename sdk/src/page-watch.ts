/** What the page and the machine say about the connection: online again, on another network, left. */

/** What is done about it. */
export interface PageDelegate {
  /** A good moment to try again at once. */
  wake(): void
  /** The machine is on another network: the media path may be dead without having noticed. */
  networkChanged(): void
  /** The page is closed, reloaded or left. */
  left(): void
  devicesChanged(): void
}

/** Chromium's `navigator.connection`; other browsers have none. */
interface Connection extends EventTarget {
  readonly type?: string
}

type Surroundings = Navigator & { connection?: Connection; mediaDevices?: MediaDevices }

/** Listens while a room is connected. */
export class PageWatch {
  readonly #delegate: PageDelegate
  #stops: (() => void)[] = []

  constructor(delegate: PageDelegate) {
    this.#delegate = delegate
  }

  start(): void {
    this.stop()
    const { connection, mediaDevices } = navigator as Surroundings
    let type = connection?.type
    this.#listen(window, 'online', () => this.#networkChanged())
    this.#listen(window, 'pagehide', () => this.#delegate.left())
    this.#listen(document, 'visibilitychange', () => document.hidden || this.#delegate.wake())
    this.#listen(mediaDevices, 'devicechange', () => this.#delegate.devicesChanged())
    // Told for every new estimate of the bandwidth, too.
    this.#listen(connection, 'change', () => {
      if (connection?.type === type || connection?.type === 'none') return
      type = connection?.type
      this.#networkChanged()
    })
  }

  stop(): void {
    for (const stop of this.#stops.splice(0)) stop()
  }

  #networkChanged(): void {
    this.#delegate.wake()
    this.#delegate.networkChanged()
  }

  #listen(target: EventTarget | undefined, name: string, act: () => void): void {
    target?.addEventListener(name, act)
    this.#stops.push(() => target?.removeEventListener(name, act))
  }
}
