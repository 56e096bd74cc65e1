/** The viewer page: watch a room without taking part. */
import type { PlenumError } from '@plenum/client'
import { el, show } from './dom'
import { explain } from './errors'
import { play, watchArrivals } from './whep'
import type { Playing } from './whep'

/** Shows the page of a room. */
export function openViewer(room: string, token: string): void {
  document.title = `Watch ${room} · Plenum`
  const video = el('video', { class: 'viewer-video', playsinline: true, controls: true })
  const state = el('p', { class: 'viewer-state', role: 'status' }, 'Not started.')
  const say = (text: string, isProblem = false): void => {
    // Said again, a screen reader would repeat it.
    if (state.textContent !== text) state.textContent = text
    state.classList.toggle('is-problem', isProblem)
  }
  const field = el('input', { class: 'input', value: token, autocomplete: 'off', spellcheck: 'false' })
  const button = el('button', { class: 'primary', type: 'submit' }, 'Watch live')
  let playing: Playing | undefined

  const stop = (): void => {
    playing?.stop()
    playing = undefined
    video.srcObject = null
    video.classList.remove('is-idle')
    button.textContent = 'Watch live'
    say('Stopped.')
  }
  const start = async (): Promise<void> => {
    button.disabled = true
    say('Connecting…')
    try {
      const current = await play(room, field.value.trim())
      playing = current
      watchArrivals(current.connection, ({ picture, sound }) => {
        // Stopped, or started anew.
        if (playing !== current) return
        const connection = current.connection.connectionState
        const isLive = picture || sound
        // What stands still would look as if it were live.
        video.classList.toggle('is-idle', !picture)
        if (connection === 'connected') say(isLive ? (picture ? 'Live.' : 'Live, sound only.') : IDLE)
        else say(STATES[connection], connection === 'failed')
      })
      video.srcObject = current.stream
      // Not awaited: with nobody on the air yet it waits for the first picture.
      video.play().catch(() => {})
      button.textContent = 'Stop'
    } catch (error) {
      const { title, advice } = explain(error as PlenumError)
      say(field.value.trim() ? `${title}. ${advice}` : 'Watching needs a token. Paste yours above.', true)
    }
    button.disabled = false
  }
  addEventListener('pagehide', () => playing?.stop())
  show(
    el(
      'main',
      { class: 'viewer' },
      el('header', {}, el('p', { class: 'eyebrow' }, 'Watching'), el('h1', { class: 'room-title' }, room)),
      video,
      el(
        'form',
        { class: 'viewer-form', onsubmit: (event) => (event.preventDefault(), playing ? stop() : void start()) },
        el('label', { class: 'field', hidden: token !== '' }, el('span', { class: 'field-name' }, 'Token'), field),
        button,
        state,
      ),
      el('p', { class: 'viewer-note' }, 'This shows the room’s present speaker or shared screen over WebRTC (WHEP). Broadcasts for large audiences (HLS) come with a later version.'),
    ),
  )
}

const IDLE = 'Nobody is on the air. Picture and sound come as soon as somebody publishes.'

const STATES: Readonly<Record<RTCPeerConnectionState, string>> = {
  new: 'Connecting…',
  connecting: 'Connecting…',
  connected: 'Connected.',
  disconnected: 'Interrupted…',
  failed: 'The connection was lost. Stop and watch again.',
  closed: 'Stopped.',
}
