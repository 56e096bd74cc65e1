/** The chat: text messages on the reliable data channel, topic `chat`. */
import type { Room } from '@plenum/client'
import { whyNotSent } from './chat-failure'
import { el } from './dom'
import { icon } from './icons'

/** Topic of chat messages; the payload is UTF-8 text. */
export const CHAT_TOPIC = 'chat'

const TEXT_MAX = 4000
const MESSAGES_MAX = 500

/** A panel with the messages and a line to write in. */
export class Chat {
  readonly element: HTMLElement
  readonly #list = el('ol', { class: 'chat-list', role: 'log', 'aria-live': 'polite', 'aria-label': 'Messages' })
  readonly #field: HTMLTextAreaElement
  readonly #room: Room
  readonly #unread: (count: number) => void
  readonly #empty = el('p', { class: 'chat-empty' }, 'Messages go to everyone who is here now. Nothing is kept.')
  #unreadCount = 0
  #lastFrom = ''

  constructor(room: Room, unread: (count: number) => void, close: () => void) {
    this.#room = room
    this.#unread = unread
    this.#field = el('textarea', { class: 'chat-field', rows: 1, maxlength: TEXT_MAX, placeholder: 'Write a message', 'aria-label': 'Message' })
    this.#field.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') close()
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
      event.preventDefault()
      void this.#send()
    })
    const form = el(
      'form',
      { class: 'chat-form', onsubmit: (event) => (event.preventDefault(), void this.#send()) },
      this.#field,
      el('button', { class: 'round-button is-primary', type: 'submit', title: 'Send', 'aria-label': 'Send message' }, icon('send')),
    )
    const closer = el('button', { class: 'round-button', type: 'button', 'aria-label': 'Close chat', title: 'Close', onclick: close }, icon('close'))
    this.element = el(
      'aside',
      { class: 'chat', 'aria-label': 'Chat', hidden: true },
      el('header', { class: 'chat-head' }, el('h2', {}, 'Chat'), closer),
      this.#empty,
      this.#list,
      form,
    )
    room.on('data', ({ topic, from, participant, text }) => {
      if (topic === CHAT_TOPIC) this.#add(from, participant?.name || from || 'Somebody', text().slice(0, TEXT_MAX), false)
    })
  }

  get isOpen(): boolean {
    return !this.element.hidden
  }

  /** Shows or hides the panel. */
  toggle(isOpen: boolean): void {
    this.element.hidden = !isOpen
    if (!isOpen) return
    this.#unreadCount = 0
    this.#unread(0)
    this.#field.focus()
    this.#list.scrollTop = this.#list.scrollHeight
  }

  async #send(): Promise<void> {
    const text = this.#field.value.trim()
    if (!text) return
    this.#field.value = ''
    const { localParticipant } = this.#room
    const line = this.#add(localParticipant.identity, localParticipant.name || 'You', text, true)
    try {
      await localParticipant.sendData(text, { topic: CHAT_TOPIC })
    } catch (error) {
      line.classList.add('is-failed')
      line.append(el('span', { class: 'chat-failed', role: 'alert' }, whyNotSent(error)))
    }
  }

  #add(from: string, name: string, text: string, isOwn: boolean): HTMLElement {
    this.#empty.hidden = true
    const isAtEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 60
    const time = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    const head = from === this.#lastFrom ? undefined : el('span', { class: 'chat-from' }, isOwn ? 'You' : name, el('time', {}, time))
    const line = el('li', { class: `chat-message${isOwn ? ' is-own' : ''}` }, head, el('span', { class: 'chat-text' }, text))
    this.#lastFrom = from
    this.#list.append(line)
    if (this.#list.childElementCount > MESSAGES_MAX) this.#list.firstElementChild?.remove()
    if (isAtEnd || isOwn) this.#list.scrollTop = this.#list.scrollHeight
    if (!this.isOpen && !isOwn) this.#unread((this.#unreadCount += 1))
    return line
  }
}
