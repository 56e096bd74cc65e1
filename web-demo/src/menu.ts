/** A menu at a button. */
import { el } from './dom'

/** A line of a menu. */
export interface Choice {
  text: string
  /** Present on choices of a group. */
  isChosen?: boolean
  act(): void
}

/** Opens a menu at its button; arrow keys move, Escape closes. */
export function openMenu(button: HTMLButtonElement, choices: readonly Choice[]): void {
  document.querySelector('.menu')?.remove()
  const items = choices.map(({ text, isChosen, act }) => {
    const item = el('button', { type: 'button', class: 'menu-item', role: isChosen === undefined ? 'menuitem' : 'menuitemradio' }, text)
    if (isChosen !== undefined) item.setAttribute('aria-checked', String(isChosen))
    item.addEventListener('click', () => {
      close()
      act()
    })
    return item
  })
  const menu = el('div', { class: 'menu', role: 'menu' }, ...items)
  const close = (): void => {
    menu.remove()
    button.setAttribute('aria-expanded', 'false')
    document.removeEventListener('pointerdown', outside, true)
    button.focus()
  }
  const outside = (event: Event): void => {
    if (!menu.contains(event.target as Node)) close()
  }
  menu.addEventListener('keydown', (event) => {
    const at = items.indexOf(document.activeElement as HTMLButtonElement)
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step) items[(at + step + items.length) % items.length]!.focus()
    else if (event.key === 'Escape' || event.key === 'Tab') close()
    else return
    event.preventDefault()
    event.stopPropagation()
  })
  document.addEventListener('pointerdown', outside, true)
  // Nothing outside of what fills the screen would be seen.
  const around = document.fullscreenElement ?? document.body
  around.append(menu)
  place(menu, button)
  button.setAttribute('aria-expanded', 'true')
  items[0]?.focus()
}

function place(menu: HTMLElement, button: HTMLElement): void {
  const at = button.getBoundingClientRect()
  const { offsetWidth: width, offsetHeight: height } = menu
  const left = Math.min(Math.max(8, at.right - width), innerWidth - width - 8)
  const below = at.bottom + 6
  const top = below + height > innerHeight - 8 ? Math.max(8, at.top - height - 6) : below
  menu.style.left = `${left}px`
  menu.style.top = `${top}px`
}
