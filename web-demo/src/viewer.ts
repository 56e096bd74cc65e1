/** The viewer page: watch a room without taking part. */
import type { PlenumError } from '@plenum/client'
import { el, show } from './dom'
import { explain } from './errors'
import { play } from './whep'
import type { Playing } from './whep'

/** Shows the page of a room. */
export function openViewer(room: string, token: string): void {
  document.title = `Watch ${room} · Plenum`
  const video = el('video', { class: 'viewer-video', playsinline: true, controls: true })
  const state = el('p', { class: 'viewer-state', role: 'status' }, 'Not started.')
  const field = el('input', { class: 'input', value: token, autocomplete: 'off', spellcheck: 'false' })
  const button = el('button', { class: 'primary', type: 'submit' }, 'Watch live')
  let playing: Playing | undefined

  const stop = (): void => {
    playing?.stop()
    playing = undefined
    video.srcObject = null
    button.textContent = 'Watch live'
    state.textContent = 'Stopped.'
  }
  const start = async (): Promise<void> => {
    button.disabled = true
    state.textContent = 'Connecting…'
    try {
      playing = await play(room, field.value.trim())
      playing.connection.onconnectionstatechange = () => {
        state.textContent = STATES[playing?.connection.connectionState ?? 'closed']
      }
      video.srcObject = playing.stream
      await video.play().catch(() => {})
      button.textContent = 'Stop'
    } catch (error) {
      const { title, advice } = explain(error as PlenumError)
      state.textContent = `${title}. ${advice}`
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

const STATES: Readonly<Record<RTCPeerConnectionState, string>> = {
  new: 'Connecting…',
  connecting: 'Connecting…',
  connected: 'Live. The picture appears as soon as somebody publishes.',
  disconnected: 'Interrupted…',
  failed: 'The connection was lost.',
  closed: 'Stopped.',
}
