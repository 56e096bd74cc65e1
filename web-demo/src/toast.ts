/** Short notices that go by themselves, and banners that stay while something lasts. */
import { el } from './dom'

const NOTE_MS = 3500
const PROBLEM_MS = 8000 // long enough to read twice

/** Shows a notice for a few seconds, or until it is clicked away; problems are read out at once. */
export function toast(text: string, kind: 'note' | 'problem' = 'note'): void {
  let list = document.querySelector('.toasts')
  if (!list) document.body.append((list = el('div', { class: 'toasts' })))
  const one = el('div', { class: `toast toast-${kind}`, role: kind === 'problem' ? 'alert' : 'status' }, text)
  one.addEventListener('click', () => one.remove())
  list.append(one)
  setTimeout(() => one.remove(), kind === 'problem' ? PROBLEM_MS : NOTE_MS)
}

/** A line above the stage for a state that lasts. */
export class Banner {
  readonly element = el('div', { class: 'banner', role: 'status', hidden: true })

  /** Shows a text and perhaps a button. */
  show(text: string, action?: { text: string; act(): void }): void {
    const button = action && el('button', { type: 'button', class: 'banner-button', onclick: () => action.act() }, action.text)
    this.element.replaceChildren(el('span', {}, text), ...(button ? [button] : []))
    this.element.hidden = false
  }

  hide(): void {
    this.element.hidden = true
  }
}
