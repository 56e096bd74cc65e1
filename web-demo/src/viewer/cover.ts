/** What lies over the picture while there is none. */
import { el } from '../dom'
import { icon } from '../icons'
import type { Said } from './say'

export class Cover {
  readonly element = el('div', { class: 'player-cover' })
  readonly #mark = el('span', { class: 'player-mark', 'aria-hidden': 'true' })
  // The line below the player says the same to whoever listens.
  readonly #text = el('div', { class: 'player-text', 'aria-hidden': 'true' })
  readonly #button: HTMLButtonElement

  constructor(act: () => void) {
    this.#button = el('button', { class: 'primary', type: 'button', onclick: act })
    this.element.append(this.#mark, this.#text, this.#button)
  }

  update({ title, advice, tone }: Said, button: string | undefined, isShown: boolean): void {
    this.element.hidden = !isShown
    const key = `${tone} ${title} ${advice}`
    if (this.element.dataset.key !== key) {
      this.element.dataset.key = key
      this.#mark.className = `player-mark is-${tone}`
      this.#mark.replaceChildren(...(tone === 'problem' ? [icon('warning')] : []))
      this.#text.replaceChildren(el('strong', {}, title), el('span', {}, advice))
    }
    this.#button.hidden = button === undefined
    if (button !== undefined && this.#button.textContent !== button) this.#button.textContent = button
  }
}
