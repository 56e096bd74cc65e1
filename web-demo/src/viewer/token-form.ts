/** A line to paste a token in, for whoever came without. */
import { el } from '../dom'

export class TokenForm {
  readonly element: HTMLDetailsElement
  #wasAsked = false

  constructor(use: (token: string) => void) {
    const field = el('input', { class: 'input', autocomplete: 'off', spellcheck: 'false', required: true })
    this.element = el(
      'details',
      { class: 'watch-token' },
      el('summary', {}, 'Have a token?'),
      el(
        'form',
        { onsubmit: (event) => (event.preventDefault(), field.value.trim() && use(field.value.trim())) },
        el('label', { class: 'field' }, el('span', { class: 'field-name' }, 'Token'), field),
        el('button', { class: 'secondary', type: 'submit' }, 'Use it'),
      ),
    )
  }

  update(isShown: boolean, isAsked: boolean): void {
    this.element.hidden = !isShown
    if (isAsked && !this.#wasAsked) this.element.open = true
    this.#wasAsked = isAsked
  }
}
