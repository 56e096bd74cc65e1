/** The menu of one tile: pin, figures, and which layer to receive. */
import type { RemotePublication } from '@plenum/client'
import { el } from './dom'
import { bitrate } from './format'
import type { Tile } from './tile'

interface Choice {
  text: string
  /** Present on choices of a group. */
  isChosen?: boolean
  act(): void
}

/** Opens the menu at its button; arrow keys move, Escape closes. */
export function openTileMenu(button: HTMLButtonElement, tile: Tile, pin: (tile: Tile) => void): void {
  const choices: Choice[] = [
    { text: 'Show large', act: () => pin(tile) },
    { text: tile.hasStats ? 'Hide statistics' : 'Show statistics', act: () => tile.setStats(!tile.hasStats) },
  ]
  const { picture } = tile
  if (picture && 'stream' in picture) choices.push(...layerChoices(picture))
  openMenu(button, choices)
}

function layerChoices(picture: RemotePublication): Choice[] {
  const { layers, layer: chosen } = picture
  const auto: Choice = {
    text: 'Quality: automatic',
    isChosen: chosen === undefined,
    act: () => picture.setLayer(undefined),
  }
  if (layers.length < 2) return [auto]
  const one = layers.map((layer, index) => ({
    text: `Quality: ${QUALITY_NAMES[index] ?? `layer ${index + 1}`}${describe(layer)}`,
    isChosen: chosen === index,
    act: () => picture.setLayer(index),
  }))
  return [auto, ...one.reverse()]
}

const QUALITY_NAMES = ['low', 'medium', 'high']

function describe({ width, height, bitrate: bps, live }: RemotePublication['layers'][number]): string {
  const parts = [width && height ? `${width}×${height}` : '', live && bps ? bitrate(bps) : live ? '' : 'not sent now']
  const text = parts.filter(Boolean).join(', ')
  return text && ` (${text})`
}

function openMenu(button: HTMLButtonElement, choices: readonly Choice[]): void {
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
  document.body.append(menu)
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
