/** One picture on the stage: a participant's camera or a shared screen. */
import type { LocalPublication, RemotePublication, TrackStats } from '@plenum/client'
import { el } from './dom'
import { statsLines } from './format'
import { icon } from './icons'
import type { Rect } from './layout'
import { hueOf, initials } from './names'
import { openTileMenu } from './tile-menu'

/** What a tile shows. */
export interface TileSubject {
  /** Unique on the stage. */
  key: string
  identity: string
  name: string
  isLocal: boolean
  kind: 'camera' | 'screen'
}

const SMALL_WIDTH = 260

type AnyPublication = LocalPublication | RemotePublication

/** Shows one participant's picture, name and state. */
export class Tile {
  readonly element: HTMLElement
  readonly video: HTMLVideoElement
  readonly subject: TileSubject
  /** When this participant last spoke, for choosing whom to show large. */
  spokeAt = 0
  readonly #label = el('span', { class: 'tile-name' })
  readonly #muted = el('span', { class: 'tile-muted', title: 'Muted', hidden: true }, icon('micOff'))
  readonly #avatar: HTMLElement
  readonly #menu: HTMLButtonElement
  readonly #notice = el('div', { class: 'tile-notice', hidden: true })
  readonly #stats = el('dl', { class: 'tile-stats', hidden: true })
  #picture: AnyPublication | undefined
  #sound: AnyPublication | undefined
  #isOnStage = true
  #isSpeaking = false
  /** Width by height of its place; the element itself may still be on its way there. */
  #shape = 16 / 9

  constructor(subject: TileSubject, pin: (tile: Tile) => void) {
    this.subject = subject
    this.video = el('video', { class: 'tile-video', autoplay: true, playsinline: true, muted: true })
    this.video.muted = true
    for (const name of ['resize', 'emptied']) this.video.addEventListener(name, () => this.#fit())
    const face = el('span', { class: 'avatar' }, initials(subject.name))
    this.#avatar = el('div', { class: 'tile-avatar' }, face)
    const menu = el('button', { class: 'tile-button', type: 'button', title: 'Options', 'aria-haspopup': 'menu' }, icon('more'))
    this.#menu = menu
    menu.addEventListener('click', () => openTileMenu(menu, this, pin))
    this.element = el(
      'article',
      { class: `tile tile-${subject.kind}${subject.isLocal ? ' is-local' : ''}`, 'data-key': subject.key },
      // Behind the picture: seen until the first frame, while a slot changes hands, and when it is off.
      this.#avatar,
      this.video,
      this.#notice,
      this.#stats,
      el('div', { class: 'tile-bar' }, this.#muted, this.#label),
      menu,
    )
    this.element.addEventListener('dblclick', () => pin(this))
    this.rename(subject.name, subject.identity)
    this.refresh()
  }

  /** The publication it shows. */
  get picture(): AnyPublication | undefined {
    return this.#picture
  }

  get isLocal(): boolean {
    return this.subject.isLocal
  }

  get isScreen(): boolean {
    return this.subject.kind === 'screen'
  }

  get isSpeaking(): boolean {
    return this.#isSpeaking
  }

  /** Its figures are shown. */
  get hasStats(): boolean {
    return !this.#stats.hidden
  }

  /** Shows a publication's pictures from now on. */
  setPicture(picture: AnyPublication | undefined): void {
    if (this.#picture === picture) return
    this.#detach()
    this.#picture = picture
    this.#attach()
    this.refresh()
  }

  /** The microphone that belongs to it. */
  setSound(sound: AnyPublication | undefined): void {
    this.#sound = sound
    this.refresh()
  }

  /** Reads the publications' state again. */
  refresh(): void {
    const picture = this.#picture
    const isOff = !picture || picture.muted
    this.video.classList.toggle('is-off', isOff)
    if (picture && 'stream' in picture) this.#explain(picture)
    else this.#notice.hidden = true
    if (picture && !('stream' in picture)) this.#showOwn(picture)
    this.#muted.hidden = this.subject.kind === 'screen' || (this.#sound !== undefined && !this.#sound.muted)
    const state = [isOff ? 'camera off' : '', this.#muted.hidden ? '' : 'muted'].filter(Boolean).join(', ')
    this.element.setAttribute('aria-label', state ? `${this.subject.name}, ${state}` : this.subject.name)
  }

  /** Who it is; one's own identity is known only after joining. */
  rename(name: string, identity: string): void {
    this.subject.name = name
    this.subject.identity = identity
    const isOwn = this.subject.isLocal && this.subject.kind === 'camera' && name !== 'You'
    this.#label.textContent = isOwn ? `${name} (you)` : name
    this.#menu.setAttribute('aria-label', `Options for ${name}`)
    const face = this.#avatar.querySelector<HTMLElement>('.avatar')!
    face.replaceChildren(this.isScreen ? icon('screen') : initials(name))
    face.style.setProperty('--hue', String(hueOf(identity)))
  }

  /** Puts it somewhere on the stage, or takes it off (`undefined`), which stops its picture. */
  place(rect: Rect | undefined): void {
    const isOnStage = rect !== undefined
    this.element.hidden = !isOnStage
    if (rect) {
      const { style } = this.element
      style.transform = `translate(${Math.round(rect.x)}px, ${Math.round(rect.y)}px)`
      style.width = `${Math.floor(rect.width)}px`
      style.height = `${Math.floor(rect.height)}px`
      this.element.classList.toggle('is-small', rect.width < SMALL_WIDTH)
      this.#shape = rect.width / Math.max(1, rect.height)
      this.#fit()
    }
    if (isOnStage === this.#isOnStage) return
    this.#isOnStage = isOnStage
    if (isOnStage) this.#attach()
    else this.#detach()
  }

  /** Marks who speaks. */
  setSpeaking(isSpeaking: boolean): void {
    if (isSpeaking || this.#isSpeaking) this.spokeAt = performance.now()
    this.#isSpeaking = isSpeaking
    this.element.classList.toggle('is-speaking', isSpeaking)
  }

  /** Shows or hides its figures. */
  setStats(isShown: boolean): void {
    this.#stats.hidden = !isShown
    if (isShown) void this.updateStats()
  }

  /** Reads fresh figures, once a second while they are shown. */
  async updateStats(): Promise<void> {
    const picture = this.#picture
    const lines = toLines(picture && !picture.muted ? await statsOf(picture) : undefined)
    if (picture && 'stream' in picture && picture.kind === 'video') lines.push(['Layer', layerText(picture)])
    const sound = this.#sound && !this.#sound.muted ? await statsOf(this.#sound) : undefined
    if (sound) lines.push(...toLines(sound).map(([name, figure]): [string, string] => [`Sound ${name.toLowerCase()}`, figure]).slice(0, 3))
    if (lines.length === 0) lines.push(['Picture', 'none'])
    this.#stats.replaceChildren(...lines.flatMap(([name, figure]) => [el('dt', {}, name), el('dd', {}, figure)]))
  }

  /** Takes it away. */
  remove(): void {
    this.#detach()
    this.element.remove()
  }

  #attach(): void {
    const picture = this.#picture
    if (!picture || !this.#isOnStage) return
    if ('stream' in picture) picture.track.attach(this.video)
    else this.#showOwn(picture)
  }

  #detach(): void {
    const picture = this.#picture
    if (picture && 'stream' in picture) picture.track.detach(this.video)
    else this.video.srcObject = null
  }

  #showOwn(picture: LocalPublication): void {
    const shown = this.video.srcObject instanceof MediaStream ? this.video.srcObject.getVideoTracks()[0] : undefined
    if (!this.#isOnStage || shown === (picture.track ?? undefined)) return
    picture.attach(this.video)
    void this.video.play().catch(() => {})
  }

  /** A portrait picture in a landscape tile would lose most of itself to cropping. */
  #fit(): void {
    const { videoWidth, videoHeight } = this.video
    this.element.classList.toggle('is-empty', !videoWidth)
    if (!videoWidth || !videoHeight) {
      this.element.classList.remove('is-letterboxed')
      return
    }
    const mismatch = videoWidth / videoHeight / this.#shape
    this.element.classList.toggle('is-letterboxed', mismatch < 0.62 || mismatch > 1.62)
  }

  #explain({ stream, muted }: RemotePublication): void {
    const text = muted || stream.state === 'active' ? undefined : NOTICES[stream.reason ?? '']
    this.#notice.hidden = text === undefined
    this.#notice.textContent = text ?? ''
  }
}

const NOTICES: Readonly<Record<string, string>> = {
  bandwidth: 'Paused: your connection is too slow',
  codec: 'Your browser cannot show this picture',
}

function layerText({ stream, layers, layer }: RemotePublication): string {
  if (stream.state === 'paused') return `paused${stream.reason ? ` (${stream.reason})` : ''}`
  const chosen = layer === undefined ? 'auto' : 'chosen'
  return `${(stream.layer ?? 0) + 1} of ${Math.max(1, layers.length)}, ${chosen}`
}

function toLines(stats: TrackStats | undefined): [string, string][] {
  return stats ? statsLines(stats) : []
}

function statsOf(publication: AnyPublication): Promise<TrackStats | undefined> {
  return 'stream' in publication ? publication.track.getStats() : publication.getStats()
}
