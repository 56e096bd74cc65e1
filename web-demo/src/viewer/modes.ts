/** The choice between broadcast and instant. */
import { el } from '../dom'
import type { Mode } from './state'

export class Modes {
  readonly element: HTMLElement
  readonly #fields: Record<Mode, HTMLInputElement>

  constructor(choose: (mode: Mode) => void) {
    const field = (mode: Mode) => el('input', { type: 'radio', name: 'mode', value: mode, onchange: () => choose(mode) })
    this.#fields = { broadcast: field('broadcast'), instant: field('instant') }
    const label = (mode: Mode, text: string, title: string) => el('label', { class: 'mode', title }, this.#fields[mode], el('span', {}, text))
    this.element = el(
      'div',
      { class: 'modes', role: 'radiogroup', 'aria-label': 'How it is shown' },
      label('broadcast', 'Broadcast', 'A moment behind, in the quality that fits, with a way to go back'),
      label('instant', 'Instant', 'The room as it is, with no delay'),
    )
  }

  update(mode: Mode, isShown: boolean): void {
    this.element.hidden = !isShown
    this.#fields[mode].checked = true
  }
}
