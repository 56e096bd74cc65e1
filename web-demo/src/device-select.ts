/** A labelled choice of cameras, microphones or loudspeakers. */
import { listDevices } from '@plenum/client'
import type { DeviceKind } from '@plenum/client'
import { el } from './dom'

const LABELS: Readonly<Record<DeviceKind, string>> = {
  camera: 'Camera',
  microphone: 'Microphone',
  speaker: 'Loudspeaker',
}

/** Offers the devices of one kind; stays hidden until the browser names them. */
export class DeviceSelect {
  readonly element: HTMLLabelElement
  readonly #select: HTMLSelectElement
  readonly #kind: DeviceKind

  constructor(kind: DeviceKind, chosen: (deviceId: string) => void) {
    this.#kind = kind
    this.#select = el('select', { class: 'select' })
    this.#select.addEventListener('change', () => chosen(this.#select.value))
    this.element = el('label', { class: 'field', hidden: true }, el('span', { class: 'field-name' }, LABELS[kind]), this.#select)
  }

  /** Reads the list again and marks the device in use. */
  async refresh(current: string | undefined): Promise<void> {
    const devices = await listDevices(this.#kind).catch(() => [])
    const named = devices.filter(({ label, deviceId }) => label && deviceId)
    this.element.hidden = named.length === 0
    this.#select.replaceChildren(
      ...named.map(({ label, deviceId }) => el('option', { value: deviceId, selected: deviceId === current }, label)),
    )
  }
}
