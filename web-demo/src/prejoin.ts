/** The view before joining: a look at oneself, devices, a name, and the Join button. */
import type { PlenumError } from '@plenum/client'
import { DeviceSelect } from './device-select'
import { el, show } from './dom'
import { explain, explainDevice } from './errors'
import { icon } from './icons'
import { watchLevel } from './level'
import { handOver, isGuestToken, nameInToken } from './link'
import type { Invitation } from './link'
import { PreviewDevice } from './preview'

/** What the person chose. */
export interface JoinChoice {
  name: string
  camera: PreviewDevice
  microphone: PreviewDevice
}

/** Where the name of a guest is kept for the next time. */
export const NAME_KEY = 'plenum.name'

/** Shows the view; `join` rejects when joining failed, and the view stays. */
export class PreJoin {
  readonly #invitation: Invitation
  readonly #join: (choice: JoinChoice) => Promise<void>
  readonly #camera = new PreviewDevice('camera', () => this.#refresh())
  readonly #microphone = new PreviewDevice('microphone', () => this.#refresh())
  readonly #video = el('video', { class: 'preview-video', autoplay: true, playsinline: true, muted: true })
  readonly #placeholder = el('p', { class: 'preview-text' })
  readonly #meter = el('span', { class: 'meter-level' })
  readonly #problem = el('div', { class: 'problem', role: 'alert', hidden: true })
  readonly #devices = el('p', { class: 'device-problem', role: 'status', hidden: true })
  readonly #button = el('button', { class: 'primary', type: 'submit' }, 'Join')
  readonly #name: HTMLInputElement
  readonly #cameraButton: HTMLButtonElement
  readonly #microphoneButton: HTMLButtonElement
  readonly #selects: { camera: DeviceSelect; microphone: DeviceSelect }
  #stopMeter: (() => void) | undefined
  #metered: MediaStreamTrack | undefined

  constructor(invitation: Invitation, join: (choice: JoinChoice) => Promise<void>, reason?: PlenumError) {
    this.#invitation = invitation
    this.#join = join
    this.#video.muted = true
    const isGuest = isGuestToken(invitation.token)
    const name = isGuest ? (localStorage.getItem(NAME_KEY) ?? '') : nameInToken(invitation.token)
    this.#name = el('input', {
      class: 'input', value: name, maxlength: 60, autocomplete: 'name', placeholder: 'What should others call you?', readonly: !isGuest && name !== '',
    })
    this.#cameraButton = this.#toggle(this.#camera)
    this.#microphoneButton = this.#toggle(this.#microphone)
    this.#selects = {
      camera: new DeviceSelect('camera', (id) => this.#camera.choose(id)),
      microphone: new DeviceSelect('microphone', (id) => this.#microphone.choose(id)),
    }
    show(this.#build())
    if (reason) this.#explain(reason)
    this.#refresh()
    void this.#camera.open()
    void this.#microphone.open()
    navigator.mediaDevices?.addEventListener('devicechange', this.#devicesChanged)
  }

  #build(): HTMLElement {
    const preview = el(
      'div',
      { class: 'preview' },
      this.#video,
      this.#placeholder,
      el('div', { class: 'preview-bar' }, this.#microphoneButton, this.#cameraButton, el('span', { class: 'meter', 'aria-hidden': 'true' }, this.#meter)),
    )
    const form = el(
      'form',
      { class: 'join-form', onsubmit: (event) => (event.preventDefault(), void this.#submit()) },
      el('p', { class: 'eyebrow' }, 'You are about to enter'),
      el('h1', { class: 'room-title' }, this.#invitation.room || 'a room'),
      el('label', { class: 'field' }, el('span', { class: 'field-name' }, 'Your name'), this.#name),
      this.#problem,
      this.#button,
      this.#devices,
      el('div', { class: 'device-fields' }, this.#selects.camera.element, this.#selects.microphone.element),
      el('a', { class: 'quiet-link', href: handOver('/connectivity', this.#invitation) }, 'Connection trouble?'),
    )
    return el('main', { class: 'prejoin' }, el('div', { class: 'prejoin-inner' }, preview, form))
  }

  #toggle(device: PreviewDevice): HTMLButtonElement {
    const act = () => (device.state.at === 'off' || device.state.at === 'failed' ? void device.open() : device.close())
    return el('button', { class: 'round-button', type: 'button', onclick: act })
  }

  #refresh(): void {
    // Called while the fields are still being made.
    if (!this.#microphoneButton || !this.#selects) return
    const camera = this.#camera.state
    const track = camera.at === 'on' ? camera.track : undefined
    const shown = this.#video.srcObject instanceof MediaStream ? this.#video.srcObject.getTracks()[0] : undefined
    if (shown !== track) this.#video.srcObject = track ? new MediaStream([track]) : null
    this.#video.hidden = !track
    const isDenied = camera.at === 'failed' && camera.error.code === 'device_denied'
    this.#placeholder.textContent = isDenied ? 'Your camera is blocked' : CAMERA_TEXTS[camera.at]
    label(this.#cameraButton, camera.at !== 'off' && camera.at !== 'failed', 'camera')
    const microphone = this.#microphone.state
    label(this.#microphoneButton, microphone.at !== 'off' && microphone.at !== 'failed', 'microphone')
    this.#watchLevel(microphone.at === 'on' ? microphone.track : undefined)
    this.#meter.parentElement?.toggleAttribute('hidden', microphone.at !== 'on')
    this.#devices.textContent = explainDevices([this.#camera, this.#microphone])
    this.#devices.hidden = this.#devices.textContent === ''
    this.#devicesChanged()
  }

  readonly #devicesChanged = (): void => {
    for (const device of [this.#camera, this.#microphone]) {
      const id = device.state.at === 'on' ? device.state.track.getSettings().deviceId : device.deviceId
      void this.#selects[device.source].refresh(id)
    }
  }

  #watchLevel(track: MediaStreamTrack | undefined): void {
    if (track === this.#metered) return
    this.#stopMeter?.()
    this.#metered = track
    this.#meter.style.transform = 'scaleX(0)'
    this.#stopMeter = track && watchLevel(track, (level) => (this.#meter.style.transform = `scaleX(${level})`))
  }

  async #submit(): Promise<void> {
    const name = this.#name.value.trim()
    if (name && isGuestToken(this.#invitation.token)) localStorage.setItem(NAME_KEY, name)
    this.#button.disabled = true
    this.#button.textContent = 'Joining…'
    this.#problem.hidden = true
    try {
      await this.#join({ name, camera: this.#camera, microphone: this.#microphone })
      this.#watchLevel(undefined)
      this.#video.srcObject = null
      navigator.mediaDevices?.removeEventListener('devicechange', this.#devicesChanged)
    } catch (error) {
      this.#button.disabled = false
      this.#button.textContent = 'Join'
      this.#explain(error as PlenumError)
    }
  }

  #explain(error: PlenumError): void {
    const { title, advice } = explain(error)
    this.#problem.replaceChildren(icon('warning'), el('div', {}, el('strong', {}, title), el('span', {}, advice)))
    this.#problem.hidden = false
  }
}

/** What is wrong with the devices of the preview; empty when nothing is. */
export function explainDevices(devices: readonly PreviewDevice[]): string {
  const errors = devices.flatMap(({ source, state }) => (state.at === 'failed' ? [{ source, error: state.error }] : []))
  const [first, second] = errors
  if (first && second && first.error.code === second.error.code) {
    return explainDevice('camera and microphone', first.error)
  }
  return errors.map(({ source, error }) => explainDevice(source, error)).join(' ')
}

const CAMERA_TEXTS = {
  off: 'Your camera is off',
  opening: 'Waiting for your camera…',
  on: '',
  failed: 'No camera picture',
} as const

function label(button: HTMLButtonElement, isOn: boolean, device: 'camera' | 'microphone'): void {
  const picture = device === 'camera' ? (isOn ? 'camera' : 'cameraOff') : isOn ? 'mic' : 'micOff'
  const text = device === 'camera' ? (isOn ? 'Turn camera off' : 'Turn camera on') : isOn ? 'Mute microphone' : 'Unmute microphone'
  button.replaceChildren(icon(picture))
  button.setAttribute('aria-label', text)
  button.title = text
  button.classList.toggle('is-off', !isOn)
}
