/** The settings dialog of a meeting: devices, statistics, the link for others, shortcuts. */
import type { DeviceKind, Room } from '@plenum/client'
import { DeviceSelect } from './device-select'
import { el } from './dom'
import { icon } from './icons'
import { toast } from './toast'

const SHORTCUTS: readonly [string, string][] = [
  ['m', 'Mute or unmute'],
  ['v', 'Camera on or off'],
  ['s', 'Share a screen'],
  ['c', 'Chat'],
  ['g', 'Grid or speaker view'],
]

/** What can be set besides devices. */
export interface Settings {
  hasStats: boolean
  /** Shows or hides the figures of every tile. */
  setStats(isShown: boolean): void
  copyLink(): void
}

/** Opens the dialog. */
export function openSettings(room: Room, { hasStats, setStats, copyLink }: Settings): void {
  const select = (kind: DeviceKind) =>
    new DeviceSelect(kind, (id) => {
      if (kind !== 'speaker') localStorage.setItem(`plenum.${kind}`, id)
      room.switchDevice(kind, id).catch(() => toast('This device cannot be used.', 'problem'))
    })
  const selects = { camera: select('camera'), microphone: select('microphone'), speaker: select('speaker') }
  const stats = el('input', { type: 'checkbox', checked: hasStats })
  stats.addEventListener('change', () => setStats(stats.checked))
  const dialog = el(
    'dialog',
    { class: 'dialog', 'aria-labelledby': 'settings-title' },
    el(
      'header',
      { class: 'dialog-head' },
      el('h2', { id: 'settings-title' }, 'Settings'),
      el('button', { class: 'round-button', type: 'button', 'aria-label': 'Close settings', onclick: () => dialog.close() }, icon('close')),
    ),
    selects.camera.element,
    selects.microphone.element,
    selects.speaker.element,
    el('label', { class: 'check' }, stats, el('span', {}, 'Statistics on every picture')),
    // On a small screen the bar has no room for it.
    el('button', { class: 'secondary', type: 'button', onclick: () => (dialog.close(), copyLink()) }, icon('link'), 'Copy invitation link'),
    el('h3', { class: 'keys-title' }, 'Keys'),
    el('dl', { class: 'keys' }, ...SHORTCUTS.flatMap(([key, text]) => [el('dt', {}, el('kbd', {}, key)), el('dd', {}, text)])),
  )
  const current = (source: 'camera' | 'microphone') =>
    room.localParticipant.publication(source)?.track?.getSettings().deviceId
  const refresh = () => {
    void selects.camera.refresh(current('camera'))
    void selects.microphone.refresh(current('microphone'))
    void selects.speaker.refresh(undefined)
  }
  const stop = room.on('deviceChange', refresh)
  dialog.addEventListener('close', () => {
    stop()
    dialog.remove()
  })
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close() // beside the box
  })
  refresh()
  document.body.append(dialog)
  dialog.showModal()
}
