/** Typed events: a map from event name to the listener's arguments. */

/** Ends a subscription to an event. */
export type Unsubscribe = () => void

type Listener<Args> = Args extends unknown[] ? (...args: Args) => void : never

/** Calls the listeners of named events; `Events` maps each name to its arguments as a tuple. */
export class Emitter<Events extends { [Name in keyof Events]: unknown[] }> {
  readonly #listeners = new Map<keyof Events, Set<(...args: never[]) => void>>()

  /** Adds a listener; the returned function removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): Unsubscribe {
    let listeners = this.#listeners.get(name)
    if (!listeners) this.#listeners.set(name, (listeners = new Set()))
    listeners.add(listener as (...args: never[]) => void)
    return () => this.off(name, listener)
  }

  /** Adds a listener that is called at most once. */
  once<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): Unsubscribe {
    const stop = this.on(name, ((...args: Events[Name]) => {
      stop()
      ;(listener as (...args: unknown[]) => void)(...args)
    }) as Listener<Events[Name]>)
    return stop
  }

  /** Removes a listener. */
  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    this.#listeners.get(name)?.delete(listener as (...args: never[]) => void)
  }

  /** Calls every listener of an event; one that throws does not stop the others. */
  protected emit<Name extends keyof Events>(name: Name, ...args: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        ;(listener as (...args: unknown[]) => void)(...args)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}
