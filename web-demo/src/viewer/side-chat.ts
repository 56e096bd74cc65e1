/** The chat beside a broadcast: the room's own, joined without media once somebody opens it. */
import { PlenumError, Room } from '@plenum/client'
import { Chat } from '../chat'
import { el } from '../dom'
import { explain } from '../errors'
import { icon } from '../icons'
import { isGuestToken, renewToken } from '../link'
import type { Invitation } from '../link'
import { NAME_KEY } from '../prejoin'

export class SideChat {
  readonly element = el('div', { class: 'side-chat', hidden: true })
  readonly #invitation: Invitation
  readonly #isGuest: boolean
  readonly #isCrowd: () => boolean
  readonly #unread: (count: number) => void
  readonly #close: () => void
  #room: Room | undefined
  #chat: Chat | undefined
  #isBlocked = false

  /** `isCrowd`: so many watch that a list of all would be a burden. */
  constructor(invitation: Invitation, isCrowd: () => boolean, unread: (count: number) => void, close: () => void) {
    this.#invitation = invitation
    this.#isGuest = isGuestToken(invitation.token)
    this.#isCrowd = isCrowd
    this.#unread = unread
    this.#close = close
  }

  get isOpen(): boolean {
    return !this.element.hidden
  }

  /** Shows or hides it; the first time, it joins. */
  toggle(isOpen: boolean): void {
    this.element.hidden = !isOpen
    this.#chat?.toggle(isOpen)
    if (!isOpen || this.#room) return
    if (this.#isBlocked) this.#say('Chat is there with the broadcast', 'Your link can be in the room once, and the instant picture is that once.')
    else if (this.#isGuest) this.#askName()
    else void this.#join('')
  }

  /**
   * The picture comes by a stay in the room of its own. With a link that stands for one person that
   * stay and the chat's would end each other.
   */
  setInstant(isInstant: boolean): void {
    const isBlocked = isInstant && !this.#isGuest
    if (isBlocked === this.#isBlocked) return
    this.#isBlocked = isBlocked
    if (isBlocked) this.leave()
    if (this.isOpen) this.toggle(true)
  }

  leave(): void {
    const room = this.#room
    this.#room = this.#chat = undefined
    room?.disconnect()
    this.#unread(0)
  }

  async #join(name: string): Promise<void> {
    // The list is there for the names of those who write; without it, they are known by their identities.
    const room = new Room({ media: false, roster: this.#isCrowd() ? 'publishers' : 'all' })
    this.#room = room
    this.#say('Joining the chat…', '')
    room.on('token', (token) => renewToken(this.#invitation, token))
    room.on('disconnected', (error) => this.#room === room && this.#left(error))
    try {
      await room.connect(location.origin, this.#invitation.token, name ? { name } : {})
    } catch (error) {
      if (this.#room === room) this.#left(error as PlenumError)
      return
    }
    if (this.#room !== room) return
    this.#chat = new Chat(room, this.#unread, this.#close)
    this.element.replaceChildren(this.#chat.element)
    this.#chat.toggle(this.isOpen)
  }

  #left(error: PlenumError | undefined): void {
    this.#room = this.#chat = undefined
    this.#unread(0)
    const { title, advice } = error ? explain(error) : { title: 'You left the chat', advice: '' }
    const again = el('button', { class: 'secondary', type: 'button', onclick: () => this.toggle(true) }, 'Join the chat again')
    this.#say(title, advice, again)
  }

  #askName(): void {
    const field = el('input', { class: 'input', value: localStorage.getItem(NAME_KEY) ?? '', maxlength: 64, autocomplete: 'name', required: true })
    const form = el(
      'form',
      { class: 'side-chat-form', onsubmit: (event) => {
        event.preventDefault()
        const name = field.value.trim()
        if (!name) return
        localStorage.setItem(NAME_KEY, name)
        void this.#join(name)
      } },
      el('label', { class: 'field' }, el('span', { class: 'field-name' }, 'Your name'), field),
      el('button', { class: 'primary', type: 'submit' }, 'Join the chat'),
    )
    this.#say('', 'Those in the room see that you are there, and what you write.', form)
    field.focus()
  }

  #say(title: string, advice: string, more?: HTMLElement): void {
    const closer = el('button', { class: 'round-button', type: 'button', 'aria-label': 'Close chat', title: 'Close', onclick: this.#close }, icon('close'))
    this.element.replaceChildren(
      el(
        'aside',
        { class: 'chat', 'aria-label': 'Chat' },
        el('header', { class: 'chat-head' }, el('h2', {}, 'Chat'), closer),
        el('div', { class: 'side-chat-text', role: 'status' }, title && el('strong', {}, title), advice && el('p', {}, advice)),
        more,
      ),
    )
  }
}
