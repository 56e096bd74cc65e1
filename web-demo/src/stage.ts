/** Lays the tiles out, as a grid or around whoever speaks, and pages when there are too many. */
import { el } from './dom'
import { icon } from './icons'
import { gridRects, pageCapacity, speakerRects } from './layout'
import { chooseMain, HOLD_MS } from './speaker'
import type { Tile } from './tile'

export type View = 'grid' | 'speaker'

const TILE_WIDTH_MIN = 150
const TILE_WIDTH_MIN_WIDE = 168
const WIDE = 720

/** The area of the page that shows pictures. */
export class Stage {
  readonly element: HTMLElement
  readonly #area = el('div', { class: 'stage-area' })
  readonly #pager: HTMLElement
  readonly #pageText = el('span', { class: 'pager-text', 'aria-live': 'polite' })
  readonly #tiles = new Map<string, Tile>()
  #view: View = 'grid'
  #pinned: Tile | undefined
  #page = 0
  #frame = 0
  #main: Tile | undefined
  #later: ReturnType<typeof setTimeout> | undefined

  constructor() {
    const turn = (name: 'previous' | 'next', step: number) =>
      el('button', { class: 'round-button', type: 'button', title: `${name} page`, 'aria-label': `Show ${name} page`, onclick: () => this.#turn(step) }, icon(name))
    this.#pager = el('div', { class: 'pager', hidden: true }, turn('previous', -1), this.#pageText, turn('next', 1))
    this.element = el('section', { class: 'stage', 'aria-label': 'Participants' }, this.#area, this.#pager)
    new ResizeObserver(() => this.#arrange()).observe(this.#area)
  }

  get view(): View {
    return this.#view
  }

  get tiles(): ReadonlyMap<string, Tile> {
    return this.#tiles
  }

  /** The tile someone chose to see large. */
  get pinned(): Tile | undefined {
    return this.#pinned
  }

  add(tile: Tile): void {
    this.#tiles.set(tile.subject.key, tile)
    this.#area.append(tile.element)
    this.arrange()
  }

  remove(key: string): void {
    const tile = this.#tiles.get(key)
    if (!tile) return
    if (this.#pinned === tile) this.#pinned = undefined
    if (this.#main === tile) this.#main = undefined
    this.#tiles.delete(key)
    tile.remove()
    this.arrange()
  }

  setView(view: View): void {
    this.#view = view
    if (view === 'grid') this.#pinned = undefined
    this.arrange()
  }

  pin(tile: Tile | undefined): void {
    this.#pinned = tile
    if (tile) this.#view = 'speaker'
    this.arrange()
  }

  /** Lays out anew with the next frame; several changes cost one layout. */
  arrange(): void {
    if (this.#frame) return
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0
      this.#arrange()
    })
  }

  #arrange(): void {
    const area = { width: this.#area.clientWidth, height: this.#area.clientHeight }
    if (area.width < 20 || area.height < 20) return
    if (this.#view === 'grid') this.#arrangeGrid(area)
    else this.#arrangeSpeaker(area)
    document.body.dataset['tiles'] = String(this.#tiles.size)
  }

  #arrangeGrid(area: { width: number; height: number }): void {
    const tiles = [...this.#tiles.values()]
    const perPage = pageCapacity(area, area.width < WIDE ? TILE_WIDTH_MIN : TILE_WIDTH_MIN_WIDE)
    const pages = Math.max(1, Math.ceil(tiles.length / perPage))
    this.#page = Math.min(this.#page, pages - 1)
    const first = this.#page * perPage
    const rects = gridRects(Math.min(perPage, tiles.length - first), area)
    tiles.forEach((tile, index) => tile.place(rects[index - first]))
    this.#pager.hidden = pages < 2
    this.#pageText.textContent = `${this.#page + 1} of ${pages}`
  }

  #arrangeSpeaker(area: { width: number; height: number }): void {
    const main = this.#mainTile()
    const others = [...this.#tiles.values()].filter((tile) => tile !== main)
    const { main: large, strip } = speakerRects(this.#tiles.size, area)
    main?.place(large)
    others.forEach((tile, index) => tile.place(strip[index]))
    this.#pager.hidden = true
  }

  /** Whom to show large: the pinned tile, or whom `chooseMain` says. */
  #mainTile(): Tile | undefined {
    if (this.#pinned) return this.#pinned
    const tiles = [...this.#tiles.values()]
    this.#main = chooseMain(tiles, this.#main, performance.now())
    if (tiles.some((tile) => tile !== this.#main && tile.isSpeaking)) this.#arrangeLater()
    return this.#main
  }

  /** Somebody else speaks; their turn comes when whoever is large has been silent for a while. */
  #arrangeLater(): void {
    clearTimeout(this.#later)
    this.#later = setTimeout(() => this.#view === 'speaker' && this.arrange(), HOLD_MS)
  }

  #turn(step: number): void {
    this.#page = Math.max(0, this.#page + step)
    this.arrange()
  }
}
