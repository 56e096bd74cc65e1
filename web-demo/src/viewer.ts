/** The viewer page: a room's broadcast, or the room as it is, without taking part. */
import type { PlenumError } from '@plenum/client'
import { Control, listenToKeys } from './controls'
import { el, show } from './dom'
import { explain } from './errors'
import { icon } from './icons'
import { grantsIn, renewToken } from './link'
import type { Invitation } from './link'
import { Bar } from './viewer/bar'
import { Cover } from './viewer/cover'
import { Modes } from './viewer/modes'
import { NativePlayer } from './viewer/native-player'
import { hasMse } from './viewer/player'
import type { Player, PlayerDelegate } from './viewer/player'
import { NOT_LOADED, NOT_SUPPORTED } from './viewer/problems'
import { say, sentences } from './viewer/say'
import type { Said } from './viewer/say'
import { canFill, canInset, toggleFill, toggleInset } from './viewer/screen'
import { ServerClock } from './viewer/server-clock'
import { SideChat } from './viewer/side-chat'
import { ViewerState } from './viewer/state'
import type { Effect, ViewerEvent } from './viewer/state'
import { askStatus, livePath, StatusPoll } from './viewer/status'
import { TokenForm } from './viewer/token-form'
import { latencyText, sinceText, viewersText } from './viewer/words'
import { play, watchArrivals } from './whep'
import type { Playing } from './whep'

/** Shows the page of a room. */
export function openViewer(invitation: Invitation): void {
  document.title = `Watch ${invitation.room} · Plenum`
  new Viewer(invitation)
}

const TICK_MS = 500
const STEADY_MS = 30_000
const STALL_SHOWN_MS = 800
const POINTER_IDLE_MS = 3000
const CROWD = 100

class Viewer {
  readonly #invitation: Invitation
  readonly #state: ViewerState
  readonly #poll: StatusPoll
  readonly #clock = new ServerClock()
  readonly #chat: SideChat | undefined
  readonly #video = el('video', { class: 'player-video', playsinline: true })
  readonly #player = el('section', { class: 'player', 'aria-label': 'Player' })
  readonly #cover: Cover
  readonly #bar: Bar
  readonly #sound = el('button', { class: 'player-unmute', type: 'button', hidden: true, onclick: () => this.#setMuted(false) }, icon('soundOff'), 'Turn sound on')
  readonly #said = el('p', { class: 'viewer-state', role: 'status' })
  readonly #count = el('span', { class: 'viewer-count', hidden: true })
  readonly #latency = el('span', { class: 'watch-latency' })
  readonly #since = el('span', { class: 'viewer-since' })
  readonly #modes: Modes
  readonly #token: TokenForm
  #broadcast: Player | undefined
  #instant: Playing | undefined
  /** What the running connection says beyond the page's state. */
  #note: Said | undefined
  /** The browser refused to start with sound. */
  #isSilenced = false
  /** Neither sound nor picture may start without a click. */
  #needsClick = false
  /** Increases with every start and end: what comes late from an earlier one is not heard. */
  #turn = 0
  #playingSinceMs: number | undefined
  #retryTimer: ReturnType<typeof setTimeout> | undefined
  #stallTimer: ReturnType<typeof setTimeout> | undefined
  #pointerTimer: ReturnType<typeof setTimeout> | undefined

  constructor(invitation: Invitation) {
    this.#invitation = invitation
    const { room, token } = invitation
    const grants = grantsIn(room, token)
    this.#state = new ViewerState(grants.looksIn)
    this.#cover = new Cover(() => this.#act())
    this.#modes = new Modes((mode) => this.#apply({ t: 'choose', mode }))
    this.#token = new TokenForm((pasted) => {
      renewToken(invitation, pasted)
      location.reload()
    })
    this.#bar = new Bar(this.#video, canInset(this.#video), canFill(this.#player, this.#video), {
      toggle: () => this.#toggle(),
      toggleSound: () => this.#setMuted(!this.#video.muted),
      goLive: () => this.#goLive(),
      toggleInset: () => void toggleInset(this.#video),
      toggleFill: () => void toggleFill(this.#player, this.#video),
    })
    const control = new Control({ on: 'Close chat', off: 'Open chat' }, { on: 'chat', off: 'chat' }, () => toggleChat(), 'C')
    const toggleChat = (isOpen = !this.#chat?.isOpen): void => {
      this.#chat?.toggle(isOpen)
      control.set(isOpen)
      if (!isOpen) control.element.focus()
    }
    this.#chat = grants.writes ? new SideChat(invitation, () => (this.#state.status?.viewers ?? 0) > CROWD, (count) => control.count(count), () => toggleChat(false)) : undefined
    this.#poll = new StatusPoll({
      ask: () => askStatus(room, token, (date, sentMs) => this.#clock.note(date, sentMs, Date.now())),
      answered: (answer) => this.#apply('status' in answer ? { t: 'status', status: answer.status } : { t: 'denied', problem: answer.denied }),
      failed: () => this.#apply({ t: 'unknown' }),
      isHidden: () => document.hidden,
      random: Math.random,
    })
    this.#build(control)
    this.#listen({ c: () => this.#chat && toggleChat() })
    this.#render()
    this.#poll.start()
    setInterval(() => this.#tick(), TICK_MS)
  }

  #build(chatControl: Control): void {
    this.#player.append(this.#video, this.#cover.element, this.#sound, this.#bar.element)
    const head = el(
      'header',
      { class: 'watch-head' },
      el('div', { class: 'watch-title' }, el('p', { class: 'eyebrow' }, 'Watching'), el('h1', { class: 'room-title' }, this.#invitation.room)),
      this.#modes.element,
      this.#chat && chatControl.element,
    )
    const facts = el('div', { class: 'watch-facts' }, this.#said, this.#latency, this.#since, this.#count)
    show(
      el(
        'main',
        { class: 'watch' },
        head,
        el('div', { class: 'watch-middle' }, el('div', { class: 'watch-main' }, this.#player, facts, this.#token.element), this.#chat?.element),
      ),
    )
  }

  #listen(keys: Readonly<Record<string, () => void>>): void {
    for (const name of ['play', 'pause', 'volumechange', 'playing', 'emptied']) this.#video.addEventListener(name, () => this.#render())
    this.#video.addEventListener('pause', () => this.#video.ended || this.#broadcast?.hold())
    this.#video.addEventListener('play', () => this.#broadcast?.resume())
    this.#video.addEventListener('click', () => matchMedia('(hover: hover)').matches && this.#state.mode === 'broadcast' && this.#toggle())
    this.#video.addEventListener('dblclick', () => void toggleFill(this.#player, this.#video))
    document.addEventListener('fullscreenchange', () => this.#render())
    document.addEventListener('visibilitychange', () => document.hidden || this.#poll.now())
    addEventListener('online', () => this.#poll.now())
    addEventListener('pagehide', () => this.#apply({ t: 'stop' }))
    for (const name of ['pointermove', 'pointerdown', 'keydown', 'focusin']) this.#player.addEventListener(name, () => this.#pointed())
    listenToKeys({
      k: () => this.#state.phase.at === 'playing' && this.#toggle(),
      m: () => this.#setMuted(!this.#video.muted),
      f: () => void toggleFill(this.#player, this.#video),
      l: () => this.#goLive(),
      ...keys,
    })
  }

  #apply(event: ViewerEvent): void {
    const before = this.#state.phase.at
    for (const effect of this.#state.apply(event)) this.#run(effect)
    const { at } = this.#state.phase
    if (at !== before) this.#playingSinceMs = at === 'playing' ? performance.now() : undefined
    this.#chat?.setInstant(this.#state.mode === 'instant' && (at === 'loading' || at === 'playing'))
    this.#render()
  }

  #run(effect: Effect): void {
    switch (effect.t) {
      case 'play':
        clearTimeout(this.#retryTimer)
        this.#turn += 1
        void (effect.mode === 'instant' ? this.#playInstant(this.#turn) : this.#playBroadcast(this.#turn))
        return
      case 'quit':
        this.#quit()
        return
      case 'retry':
        clearTimeout(this.#retryTimer)
        this.#retryTimer = setTimeout(() => this.#apply({ t: 'due' }), effect.afterMs)
        return
      case 'poll':
        this.#poll.now()
    }
  }

  #quit(): void {
    this.#turn += 1
    clearTimeout(this.#stallTimer)
    this.#broadcast?.stop()
    this.#instant?.stop()
    this.#broadcast = this.#instant = this.#note = undefined
    this.#needsClick = false
    this.#video.srcObject = null
  }

  async #playBroadcast(turn: number): Promise<void> {
    const { room, token } = this.#invitation
    const url = new URL(livePath(room, 'index.m3u8', token), location.href).href
    const hasToken = token !== ''
    try {
      if (hasMse()) {
        const { HlsPlayer } = await import('./viewer/hls-player')
        if (turn === this.#turn) this.#broadcast = new HlsPlayer(this.#video, url, hasToken, this.#delegate(turn))
      } else if (this.#video.canPlayType('application/vnd.apple.mpegurl')) {
        this.#broadcast = new NativePlayer(this.#video, url, hasToken, this.#delegate(turn))
      } else {
        this.#apply({ t: 'failed', failure: { status: 415, problem: NOT_SUPPORTED } })
        return
      }
    } catch {
      // The chunk could not be had.
      if (turn === this.#turn) this.#apply({ t: 'failed', failure: { problem: NOT_LOADED } })
      return
    }
    if (turn === this.#turn) void this.#begin(turn)
  }

  #delegate(turn: number): PlayerDelegate {
    const heard = (event: ViewerEvent) => () => turn === this.#turn && this.#apply(event)
    return {
      playing: () => {
        clearTimeout(this.#stallTimer)
        heard({ t: 'playing' })()
      },
      stalled: () => {
        clearTimeout(this.#stallTimer)
        this.#stallTimer = setTimeout(heard({ t: 'stalled' }), STALL_SHOWN_MS)
      },
      ended: heard({ t: 'ended' }),
      failed: (failure) => heard({ t: 'failed', failure })(),
      changed: () => turn === this.#turn && this.#render(),
    }
  }

  async #playInstant(turn: number): Promise<void> {
    const { room, token } = this.#invitation
    let playing: Playing
    try {
      playing = await play(room, token)
    } catch (error) {
      if (turn === this.#turn) this.#apply({ t: 'failed', failure: { problem: explain(error as PlenumError) } })
      return
    }
    if (turn !== this.#turn) {
      playing.stop()
      return
    }
    this.#instant = playing
    this.#note = noteOf('connecting')
    watchArrivals(playing.connection, ({ picture, sound }) => {
      if (turn !== this.#turn) return
      const connection = playing.connection.connectionState
      if (connection !== 'connected') this.#note = noteOf(connection)
      else if (picture) this.#note = undefined
      else this.#note = sound ? { title: 'Live, sound only.', advice: '', tone: 'live' } : IDLE
      this.#render()
    })
    this.#video.srcObject = playing.stream
    // Not awaited: with nobody on the air yet it waits for the first picture.
    void this.#begin(turn)
    this.#apply({ t: 'playing' })
  }

  /** Plays; without sound where the browser refuses it, and after a click where it refuses that too. */
  async #begin(turn: number): Promise<void> {
    for (const isMuted of this.#video.muted ? [true] : [false, true]) {
      try {
        if (isMuted && !this.#video.muted) {
          this.#video.muted = true
          this.#isSilenced = true
        }
        await this.#video.play()
        return
      } catch (error) {
        // Anything else (another source was loaded meanwhile, for one) is not the browser's refusal.
        if (turn !== this.#turn || !(error instanceof DOMException) || error.name !== 'NotAllowedError') return
      }
    }
    this.#needsClick = true
    this.#render()
  }

  /** The button in the middle. */
  #act(): void {
    if (!this.#needsClick) {
      this.#apply({ t: 'watch' })
      return
    }
    this.#needsClick = false
    this.#setMuted(false)
    // What was loaded while it waited for the click is old by now.
    void this.#begin(this.#turn).then(() => this.#broadcast?.goLive())
    this.#render()
  }

  #toggle(): void {
    if (this.#state.mode === 'instant') this.#apply({ t: 'stop' })
    else if (this.#video.paused) void this.#begin(this.#turn)
    else this.#video.pause()
  }

  #goLive(): void {
    if (!this.#broadcast) return
    this.#broadcast.goLive()
    if (this.#video.paused) void this.#video.play().then(() => this.#broadcast?.goLive(), () => {})
  }

  #setMuted(isMuted: boolean): void {
    this.#video.muted = isMuted
    this.#isSilenced = false
    if (!isMuted && this.#video.volume === 0) this.#video.volume = 1
  }

  #pointed(): void {
    this.#player.classList.remove('is-left-alone')
    clearTimeout(this.#pointerTimer)
    this.#pointerTimer = setTimeout(() => this.#player.classList.add('is-left-alone'), POINTER_IDLE_MS)
  }

  #tick(): void {
    if (this.#playingSinceMs !== undefined && performance.now() - this.#playingSinceMs > STEADY_MS) this.#apply({ t: 'steady' })
    else this.#render()
  }

  #render(): void {
    const { mode, phase, status, action } = this.#state
    const isInstant = mode === 'instant'
    const isPlaying = phase.at === 'playing'
    const said = this.#needsClick ? CLICK : this.#note ?? (isPlaying && this.#video.paused && !isInstant ? PAUSED : say(this.#state))
    const isCovered = said.tone !== 'live' && said !== PAUSED
    const text = sentences(said)
    // Said again, a screen reader would repeat it.
    if (this.#said.textContent !== text) this.#said.textContent = text
    this.#said.classList.toggle('is-live', said.tone === 'live')
    this.#cover.update(said, this.#needsClick ? 'Play' : action && BUTTONS[action], isCovered)
    this.#player.classList.toggle('is-blank', !isPlaying)
    this.#player.classList.toggle('is-dimmed', isPlaying && said.tone === 'quiet' && isCovered)
    this.#player.classList.toggle('has-video', isPlaying && !this.#video.paused)
    this.#sound.hidden = !(isPlaying && !isCovered && this.#isSilenced && this.#video.muted)
    this.#bar.element.hidden = !isPlaying
    const latency = phase.at === 'playing' && !phase.isStalled && !this.#video.paused ? latencyText(this.#broadcast?.latencyS(this.#clock)) : ''
    this.#latency.textContent = latency
    if (isPlaying) this.#bar.update({ isInstant, isLive: !isCovered, player: this.#broadcast, latency })
    this.#modes.update(mode, this.#state.hasChoice)
    this.#token.update(this.#invitation.token === '' || (phase.at === 'refused' && phase.problem.asksForToken === true), phase.at === 'refused' && phase.problem.asksForToken === true)
    const isOn = status !== undefined && (status.state === 'live' || status.state === 'starting')
    this.#count.hidden = !isOn || status.viewers === undefined
    if (status?.viewers !== undefined) setText(this.#count, viewersText(status.viewers), 'people')
    this.#since.textContent = isOn ? sinceText(status.startedAt, this.#clock.at(Date.now()) ?? Date.now()) : ''
  }
}

function setText(element: HTMLElement, text: string, picture: 'people'): void {
  if (element.dataset.text === text) return
  element.dataset.text = text
  element.replaceChildren(icon(picture), text)
}

const BUTTONS = { watch: 'Watch live', again: 'Try again' } as const
const PAUSED: Said = { title: 'Paused.', advice: '', tone: 'quiet' }
const CLICK: Said = { title: '', advice: 'Your browser wants a click first.', tone: 'quiet' }
const IDLE: Said = { title: 'Nobody is on the air.', advice: 'Picture and sound come as soon as somebody publishes.', tone: 'quiet' }

function noteOf(state: RTCPeerConnectionState): Said {
  if (state === 'failed') return { title: 'The connection was lost.', advice: 'Stop and start again.', tone: 'problem' }
  if (state === 'closed') return { title: 'Stopped.', advice: '', tone: 'quiet' }
  return { title: state === 'disconnected' ? 'Interrupted…' : 'Connecting…', advice: '', tone: 'busy' }
}
