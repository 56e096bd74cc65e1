/** The bar of buttons below the stage. */
import { el } from './dom'
import { icon } from './icons'
import type { IconName } from './icons'

/** A button of the bar that shows whether something is on. */
export class Control {
  readonly element: HTMLButtonElement
  readonly #texts: { on: string; off: string }
  readonly #icons: { on: IconName; off: IconName }
  readonly #key: string | undefined
  readonly #badge = el('span', { class: 'badge', hidden: true })

  constructor(texts: { on: string; off: string }, icons: { on: IconName; off: IconName }, act: () => void, key?: string) {
    this.#texts = texts
    this.#icons = icons
    this.#key = key
    this.element = el('button', { class: 'control', type: 'button', onclick: act })
    if (key) this.element.setAttribute('aria-keyshortcuts', key)
    this.set(false)
  }

  /** Shows the state: the name says what a click would do. */
  set(isOn: boolean, isAlert = false): void {
    const text = isOn ? this.#texts.on : this.#texts.off
    this.element.replaceChildren(icon(isOn ? this.#icons.on : this.#icons.off), this.#badge)
    this.element.setAttribute('aria-label', text)
    this.element.title = this.#key ? `${text} (${this.#key})` : text
    this.element.classList.toggle('is-on', isOn)
    this.element.classList.toggle('is-alert', isAlert)
  }

  /** A count on its corner; 0 takes it away. */
  count(count: number): void {
    this.#badge.textContent = count > 99 ? '99+' : String(count)
    this.#badge.hidden = count === 0
  }
}

/** Calls actions for single keys, except while someone types. */
export function listenToKeys(actions: Readonly<Record<string, () => void>>): () => void {
  const pressed = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return
    const target = event.target as HTMLElement
    if (target.closest('input, textarea, select, dialog, [role=menu]')) return
    const act = actions[event.key.toLowerCase()]
    if (!act) return
    event.preventDefault()
    act()
  }
  document.addEventListener('keydown', pressed)
  return () => document.removeEventListener('keydown', pressed)
}
