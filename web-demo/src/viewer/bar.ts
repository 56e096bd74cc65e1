/** The buttons over the picture, and the line to go back in time on. */
import { el } from '../dom'
import { icon } from '../icons'
import type { IconName } from '../icons'
import { openMenu } from '../menu'
import type { Player } from './player'
import { windowOf } from './player'
import { AUTO, qualityChoices, qualityLabel } from './quality'
import { latencyText } from './words'

/** What the buttons do. */
export interface BarDelegate {
  /** Plays or pauses a broadcast, stops what is instant. */
  toggle(): void
  toggleSound(): void
  goLive(): void
  toggleInset(): void
  toggleFill(): void
}

/** What the bar shows. */
export interface BarView {
  isInstant: boolean
  /** Something is to be seen or heard. */
  isLive: boolean
  player: Player | undefined
  /** How far behind it is, in words. */
  latency: string
}

/** Less than this to go back in is no use. */
const WINDOW_MIN_S = 30

export class Bar {
  readonly element: HTMLElement
  readonly #video: HTMLVideoElement
  readonly #play: HTMLButtonElement
  readonly #sound: HTMLButtonElement
  readonly #live: HTMLButtonElement
  readonly #quality: HTMLButtonElement
  readonly #inset: HTMLButtonElement
  readonly #fill: HTMLButtonElement
  readonly #volume = el('input', { class: 'volume', type: 'range', min: 0, max: 1, step: 0.05, 'aria-label': 'Volume' })
  readonly #seek = el('input', { class: 'seek', type: 'range', step: 'any', 'aria-label': 'Position' })
  readonly #latency = el('span', { class: 'player-latency' })
  #player: Player | undefined
  #isSeeking = false

  constructor(video: HTMLVideoElement, canInset: boolean, canFill: boolean, delegate: BarDelegate) {
    this.#video = video
    this.#play = button(delegate.toggle, 'K')
    this.#sound = button(delegate.toggleSound, 'M')
    this.#inset = button(delegate.toggleInset)
    this.#fill = button(delegate.toggleFill, 'F')
    this.#inset.hidden = !canInset
    this.#fill.hidden = !canFill
    this.#live = el('button', { class: 'player-live', type: 'button', onclick: delegate.goLive }, 'Live')
    this.#quality = el('button', { class: 'player-quality', type: 'button', 'aria-haspopup': 'menu', 'aria-expanded': 'false', onclick: () => this.#openQualities() })
    this.#listen()
    this.element = el(
      'div',
      { class: 'player-bar' },
      this.#seek,
      el(
        'div',
        { class: 'player-buttons' },
        this.#play, this.#sound, this.#volume, this.#live, this.#latency, el('span', { class: 'player-space' }), this.#quality, this.#inset, this.#fill,
      ),
    )
  }

  /** Shows how things are now. */
  update({ isInstant, isLive, player, latency }: BarView): void {
    this.#player = player
    const { paused, muted, volume } = this.#video
    face(this.#play, isInstant ? 'stop' : paused ? 'play' : 'pause', isInstant ? 'Stop' : paused ? 'Play' : 'Pause')
    face(this.#sound, muted || volume === 0 ? 'soundOff' : 'sound', muted ? 'Sound on' : 'Sound off')
    const isFilled = document.fullscreenElement !== null
    face(this.#fill, isFilled ? 'unfill' : 'fill', isFilled ? 'Leave full screen' : 'Full screen')
    face(this.#inset, 'inset', 'Picture in picture')
    this.#volume.value = String(muted ? 0 : volume)
    this.#live.hidden = isInstant && !isLive
    this.#showLive(isInstant, player)
    this.#latency.textContent = latency
    this.#quality.hidden = isInstant || !player || qualityChoices(player.rungs).length < 2
    if (player && !this.#quality.hidden) {
      const label = qualityLabel(player.rungs, player.chosen, player.shown)
      this.#quality.textContent = label
      this.#quality.setAttribute('aria-label', `Quality: ${label}`)
    }
    this.#showPosition(isInstant)
  }

  #showLive(isInstant: boolean, player: Player | undefined): void {
    const isBehind = !isInstant && (this.#video.paused || player?.isBehind === true)
    this.#live.classList.toggle('is-behind', isBehind)
    this.#live.disabled = !isBehind
    this.#live.title = isBehind ? 'Go to what happens now (L)' : ''
    this.#live.setAttribute('aria-label', isBehind ? 'Go live' : 'Live')
  }

  #showPosition(isInstant: boolean): void {
    const range = windowOf(this.#video)
    this.#seek.hidden = isInstant || !range || range.end - range.start < WINDOW_MIN_S
    if (!range || this.#seek.hidden || this.#isSeeking) return
    this.#seek.min = String(range.start)
    this.#seek.max = String(range.end)
    this.#seek.value = String(this.#video.currentTime)
    const done = (this.#video.currentTime - range.start) / (range.end - range.start)
    this.#seek.style.setProperty('--done', `${Math.min(100, 100 * done).toFixed(1)}%`)
    this.#seek.setAttribute('aria-valuetext', latencyText(range.end - this.#video.currentTime))
  }

  #listen(): void {
    this.#volume.addEventListener('input', () => {
      this.#video.volume = this.#volume.valueAsNumber
      this.#video.muted = this.#volume.valueAsNumber === 0
    })
    this.#seek.addEventListener('pointerdown', () => (this.#isSeeking = true))
    this.#seek.addEventListener('input', () => {
      // The live edge is no place to stay at: it has nothing buffered.
      const isAtEdge = Number(this.#seek.max) - this.#seek.valueAsNumber < 3
      if (isAtEdge) this.#player?.goLive()
      else {
        this.#player?.hold()
        this.#video.currentTime = this.#seek.valueAsNumber
      }
    })
    for (const name of ['change', 'pointerup', 'pointercancel']) this.#seek.addEventListener(name, () => (this.#isSeeking = false))
  }

  #openQualities(): void {
    const player = this.#player
    if (!player) return
    const choices = [{ level: AUTO, text: 'Auto' }, ...qualityChoices(player.rungs)]
    openMenu(this.#quality, choices.map(({ level, text }) => ({ text, isChosen: level === player.chosen, act: () => player.choose(level) })))
  }
}

function button(act: () => void, key?: string): HTMLButtonElement {
  const one = el('button', { class: 'player-button', type: 'button', onclick: act })
  if (key) one.setAttribute('aria-keyshortcuts', key)
  return one
}

/** Changed only when it is another: a button redrawn under the finger loses its click. */
function face(one: HTMLButtonElement, name: IconName, label: string): void {
  if (one.getAttribute('aria-label') === label) return
  const key = one.getAttribute('aria-keyshortcuts')
  one.replaceChildren(icon(name))
  one.setAttribute('aria-label', label)
  one.title = key ? `${label} (${key})` : label
}
