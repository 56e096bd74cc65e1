/** The meeting: keeps the page in step with the room. */
import type { LocalParticipant, PlenumError, RemoteParticipant, RemotePublication, Room, Source } from '@plenum/client'
import { Chat } from './chat'
import { Control, listenToKeys } from './controls'
import { el, show } from './dom'
import { explainDevice } from './errors'
import { icon } from './icons'
import { linkForOthers, renewToken } from './link'
import type { Invitation } from './link'
import { openSettings } from './settings'
import { Stage } from './stage'
import { Tile } from './tile'
import { Banner, toast } from './toast'

const STATS_MS = 1000
const MUTED_TEXTS: Readonly<Record<Source, string>> = {
  microphone: 'Your microphone was muted by a moderator',
  camera: 'Your camera was turned off by a moderator',
  screen_share: 'Sharing your screen was ended by a moderator',
  screen_share_audio: 'The sound of your screen was ended by a moderator',
}

type Controls = Record<'microphone' | 'camera' | 'screen' | 'chat' | 'view', Control>

/** Shows a connected (or connecting) room; `ended` is called once, with the reason unless the person left. */
export class Meeting {
  readonly #room: Room
  readonly #invitation: Invitation
  readonly #stage = new Stage()
  readonly #banner = new Banner()
  readonly #soundBanner = new Banner()
  readonly #sounds = el('div', { class: 'sounds', hidden: true })
  readonly #count = el('span', { class: 'top-count' })
  readonly #title = el('h1', { class: 'top-title' })
  readonly #lonely = el('div', { class: 'lonely', hidden: true })
  readonly #chat: Chat
  readonly #controls: Controls
  readonly #stops: (() => void)[] = []
  #hasStats = false
  #isOpen = false

  constructor(room: Room, invitation: Invitation, ended: (error: PlenumError | undefined) => void) {
    this.#room = room
    this.#invitation = invitation
    this.#chat = new Chat(room, (count) => this.#controls.chat.count(count), () => this.#toggleChat(false))
    this.#controls = this.#makeControls()
    this.#listen(ended)
  }

  /** Puts the meeting on the page. */
  open(): void {
    this.#title.textContent = this.#invitation.room
    document.title = `${this.#invitation.room} · Plenum`
    show(this.#build())
    this.#isOpen = true
    document.body.classList.add('in-meeting')
    this.#stops.push(
      listenToKeys({
        m: () => this.#toggleDevice('microphone'),
        v: () => this.#toggleDevice('camera'),
        s: () => this.#toggleScreen(),
        c: () => this.#toggleChat(!this.#chat.isOpen),
        g: () => this.#toggleView(),
      }),
    )
    const timer = setInterval(() => this.#updateStats(), STATS_MS)
    this.#stops.push(() => clearInterval(timer))
    for (const one of this.#room.participants.values()) this.#refreshParticipant(one)
    this.#refreshLocal()
  }

  #build(): HTMLElement {
    const { microphone, camera, screen, chat, view } = this.#controls
    const button = (name: 'settings' | 'link' | 'leave', text: string, act: () => void, kind = '') =>
      el('button', { class: `control ${kind}`, type: 'button', 'aria-label': text, title: text, onclick: act }, icon(name))
    const bar = el(
      'nav',
      { class: 'controls', 'aria-label': 'Meeting controls' },
      el('div', { class: 'controls-side' }, button('link', 'Copy invitation link', () => void this.#copyLink(), 'is-secondary')),
      el(
        'div',
        { class: 'controls-main' },
        microphone.element, camera.element, screen.element, chat.element,
        button('leave', 'Leave meeting', () => this.#room.disconnect(), 'is-leave'),
      ),
      el('div', { class: 'controls-side is-right' }, view.element, button('settings', 'Settings', () => this.#openSettings(), 'is-secondary')),
    )
    const top = el('header', { class: 'top' }, this.#title, this.#count)
    this.#lonely.append(
      el('p', {}, 'Nobody else is here yet.'),
      el('button', { type: 'button', class: 'secondary', onclick: () => void this.#copyLink() }, icon('link'), 'Copy invitation link'),
    )
    this.#stage.element.append(this.#lonely)
    const middle = el('div', { class: 'middle' }, this.#stage.element, this.#chat.element)
    return el('main', { class: 'meeting' }, top, this.#banner.element, this.#soundBanner.element, middle, bar, this.#sounds)
  }

  #makeControls(): Controls {
    const canShare = 'getDisplayMedia' in (navigator.mediaDevices ?? {})
    const controls = {
      microphone: new Control({ on: 'Mute microphone', off: 'Unmute microphone' }, { on: 'mic', off: 'micOff' }, () => this.#toggleDevice('microphone'), 'm'),
      camera: new Control({ on: 'Turn camera off', off: 'Turn camera on' }, { on: 'camera', off: 'cameraOff' }, () => this.#toggleDevice('camera'), 'v'),
      screen: new Control({ on: 'Stop sharing', off: 'Share screen' }, { on: 'screen', off: 'screen' }, () => this.#toggleScreen(), 's'),
      chat: new Control({ on: 'Close chat', off: 'Open chat' }, { on: 'chat', off: 'chat' }, () => this.#toggleChat(!this.#chat.isOpen), 'c'),
      view: new Control({ on: 'Switch to grid view', off: 'Switch to speaker view' }, { on: 'grid', off: 'speaker' }, () => this.#toggleView(), 'g'),
    }
    controls.view.element.classList.add('is-secondary')
    controls.screen.element.hidden = !canShare
    return controls
  }

  #listen(ended: (error: PlenumError | undefined) => void): void {
    const room = this.#room
    const refreshOf = (_: unknown, one: RemoteParticipant) => this.#refreshParticipant(one)
    const refreshLocal = () => this.#refreshLocal()
    this.#stops.push(
      room.on('participantJoined', (one) => {
        this.#refreshParticipant(one)
        if (this.#isOpen && room.state === 'connected') toast(`${nameOf(one)} is here`)
      }),
      room.on('participantLeft', (one) => this.#removeParticipant(one)),
      room.on('participantUpdated', (one) => (one.isLocal ? this.#refreshLocal() : this.#refreshParticipant(one))),
      room.on('trackPublished', (publication, one) => this.#published(publication, one)),
      room.on('trackUnpublished', refreshOf),
      room.on('trackMuted', refreshOf),
      room.on('trackUnmuted', refreshOf),
      room.on('trackChanged', refreshOf),
      room.on('streamState', refreshOf),
      room.on('connected', refreshLocal),
      room.on('localTrackPublished', refreshLocal),
      room.on('localTrackUnpublished', refreshLocal),
      room.on('localTrackChanged', refreshLocal),
      room.on('activeSpeakers', (speakers) => this.#markSpeakers(speakers)),
      room.on('reconnecting', () => this.#refreshBanner()),
      room.on('reconnected', () => (this.#refreshBanner(), this.#refreshLocal(), toast('Connected again'))),
      room.on('transport', () => this.#refreshBanner()),
      room.on('audioPlaybackBlocked', (isBlocked) => this.#soundBlocked(isBlocked)),
      room.on('localTrackMutedByRoom', ({ source }) => toast(MUTED_TEXTS[source])),
      room.on('token', (token) => renewToken(this.#invitation, token)),
      room.on('mediaDeviceError', (source, error) => {
        if (source === 'camera' || source === 'microphone') toast(explainDevice(source, error), 'problem')
      }),
      room.on('disconnected', (error) => {
        this.#close()
        ended(error)
      }),
    )
  }

  #close(): void {
    for (const stop of this.#stops.splice(0)) stop()
    document.body.classList.remove('in-meeting')
    document.querySelectorAll('.menu, dialog').forEach((open) => open.remove())
    document.title = 'Plenum'
  }

  #published(publication: RemotePublication, one: RemoteParticipant): void {
    if (publication.kind === 'audio') this.#sounds.append(publication.track.attach())
    if (publication.source === 'screen_share' && this.#stage.view === 'grid') this.#setView('speaker')
    this.#refreshParticipant(one)
  }

  #refreshParticipant(one: RemoteParticipant): void {
    if (!this.#room.participants.has(one.id)) return
    this.#refreshTiles(one, one.id, nameOf(one))
  }

  #refreshLocal(): void {
    const local = this.#room.localParticipant
    this.#refreshTiles(local, 'self', local.name || 'You')
    this.#controls.microphone.set(local.isMicrophoneEnabled, !local.isMicrophoneEnabled)
    this.#controls.camera.set(local.isCameraEnabled, !local.isCameraEnabled)
    this.#controls.screen.set(local.isScreenShareEnabled)
  }

  #refreshTiles(one: LocalParticipant | RemoteParticipant, key: string, name: string): void {
    const { identity, isLocal } = one
    const camera = this.#tile({ key, identity, name, isLocal, kind: 'camera' })
    camera.setPicture(one.publication('camera'))
    camera.setSound(one.publication('microphone'))
    camera.rename(name, identity)
    camera.refresh()
    const share = one.publication('screen_share')
    const shareKey = `${key}/screen`
    if (share) {
      const title = isLocal ? 'Your screen' : `${name}’s screen`
      const tile = this.#tile({ key: shareKey, identity, name: title, isLocal, kind: 'screen' })
      tile.setPicture(share)
      tile.refresh()
    } else if (this.#stage.tiles.has(shareKey)) {
      this.#stage.remove(shareKey)
      const isShared = [...this.#stage.tiles.values()].some(({ subject }) => subject.kind === 'screen')
      if (!isShared && !this.#stage.pinned) this.#setView('grid')
    }
    this.#refreshCount()
  }

  #tile(subject: Tile['subject']): Tile {
    const known = this.#stage.tiles.get(subject.key)
    if (known) return known
    const tile = new Tile(subject, (one) => this.#pin(one))
    if (this.#hasStats) tile.setStats(true)
    this.#stage.add(tile)
    return tile
  }

  #removeParticipant(one: RemoteParticipant): void {
    this.#stage.remove(one.id)
    this.#stage.remove(`${one.id}/screen`)
    this.#refreshCount()
    if (this.#room.state === 'connected') toast(`${nameOf(one)} left`)
  }

  #refreshCount(): void {
    const count = this.#room.participants.size + 1
    this.#count.replaceChildren(icon('people'), String(count))
    this.#count.setAttribute('aria-label', `${count} in the room`)
    this.#lonely.hidden = count > 1
  }

  #markSpeakers(speakers: readonly (LocalParticipant | RemoteParticipant)[]): void {
    const keys = new Set(speakers.map((one) => (one.isLocal ? 'self' : one.id)))
    for (const tile of this.#stage.tiles.values()) {
      tile.setSpeaking(tile.subject.kind === 'camera' && keys.has(tile.subject.key))
    }
    if (this.#stage.view === 'speaker') this.#stage.arrange()
  }

  #toggleDevice(source: 'camera' | 'microphone'): void {
    const local = this.#room.localParticipant
    const isCamera = source === 'camera'
    const on = !(isCamera ? local.isCameraEnabled : local.isMicrophoneEnabled)
    const change = isCamera ? local.setCameraEnabled(on) : local.setMicrophoneEnabled(on)
    change.then(
      () => this.#refreshLocal(),
      (error: PlenumError) => {
        toast(explainPublish(source, error), 'problem')
        this.#refreshLocal()
      },
    )
  }

  #toggleScreen(): void {
    const local = this.#room.localParticipant
    local.setScreenShareEnabled(!local.isScreenShareEnabled, { audio: true }).catch((error: PlenumError) => {
      // Closing the browser's chooser is no problem worth a notice.
      if (error.code !== 'device_denied') toast(explainPublish('screen_share', error), 'problem')
    })
  }

  #toggleChat(isOpen: boolean): void {
    this.#chat.toggle(isOpen)
    this.#controls.chat.set(isOpen)
    document.body.classList.toggle('has-chat', isOpen)
    if (!isOpen) this.#controls.chat.element.focus()
  }

  #toggleView(): void {
    this.#setView(this.#stage.view === 'grid' ? 'speaker' : 'grid')
  }

  #setView(view: 'grid' | 'speaker'): void {
    this.#stage.setView(view)
    this.#controls.view.set(view === 'speaker')
  }

  #pin(tile: Tile): void {
    if (this.#stage.pinned === tile) {
      this.#setView('grid')
      return
    }
    this.#stage.pin(tile)
    this.#controls.view.set(true)
  }

  #openSettings(): void {
    openSettings(this.#room, {
      hasStats: this.#hasStats,
      setStats: (isShown) => {
        this.#hasStats = isShown
        for (const tile of this.#stage.tiles.values()) tile.setStats(isShown)
      },
      copyLink: () => void this.#copyLink(),
    })
  }

  #updateStats(): void {
    for (const tile of this.#stage.tiles.values()) {
      if (tile.hasStats && !tile.element.hidden) void tile.updateStats()
    }
  }

  #refreshBanner(): void {
    const { state, transport } = this.#room
    if (state === 'reconnecting') {
      this.#banner.show('The connection to the server was lost. Trying again…')
    } else if (transport === 'disconnected' || transport === 'failed') {
      this.#banner.show('Sound and pictures are interrupted. Looking for another path…')
    } else {
      this.#banner.hide()
    }
  }

  #soundBlocked(isBlocked: boolean): void {
    if (!isBlocked) {
      this.#soundBanner.hide()
      return
    }
    const start = () => void this.#room.startAudio().catch(() => {})
    this.#soundBanner.show('Your browser holds the sound back.', { text: 'Turn sound on', act: start })
  }

  async #copyLink(): Promise<void> {
    const link = linkForOthers(location.origin, this.#invitation)
    const isOpenToAll = new URL(link).searchParams.has('token')
    try {
      await navigator.clipboard.writeText(link)
      toast(isOpenToAll ? 'Invitation link copied' : 'Link copied. Others need a token of their own to open it.')
    } catch {
      prompt('Copy this link:', link)
    }
  }
}

function nameOf(one: RemoteParticipant): string {
  return one.name || one.identity
}

function explainPublish(source: Source, error: PlenumError): string {
  if (error.code === 'publish_denied' || error.code === 'forbidden') return 'You may not publish this here.'
  if (source === 'camera' || source === 'microphone') return explainDevice(source, error)
  return `The screen cannot be shared: ${error.message}`
}
