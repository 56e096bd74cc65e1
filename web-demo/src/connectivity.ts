/** The page `/connectivity`: which ways lead to the server from here, and what to do when few do. */
import { PlenumError } from '@plenum/client'
import { Attempt, openTestRoom, trySignal } from './attempt'
import { el, show } from './dom'
import { explain } from './errors'
import { icon } from './icons'
import { readInvitation } from './link'
import type { Invitation } from './link'
import { toast } from './toast'
import { conclude, describe, describeSignal, isRelay, NAMES, nothingYet, placesOf, readIceServers, report, serversFor, WAYS } from './ways'
import type { Findings, Outcome, Way } from './ways'

/** Shows the page and begins, if there is a token to begin with. */
export function openConnectivity(invitation: Invitation): void {
  document.title = 'Connection test · Plenum'
  if (invitation.token) new ConnectivityPage(invitation)
  else askForLink()
}

class ConnectivityPage {
  readonly #invitation: Invitation
  readonly #summary = el('section', { class: 'conclusion', role: 'status' })
  readonly #list = el('ul', { class: 'ways' })
  readonly #again = el('button', { class: 'primary', type: 'button', onclick: () => void this.#test() }, 'Test again')
  readonly #copy = el('button', { class: 'secondary', type: 'button', onclick: () => void this.#copyReport() }, 'Copy report')
  #findings = nothingYet()

  constructor(invitation: Invitation) {
    this.#invitation = invitation
    const back = invitation.room && el('a', { class: 'quiet-link', href: `/?room=${encodeURIComponent(invitation.room)}` }, 'Back to the meeting')
    show(
      el(
        'main',
        { class: 'connectivity' },
        el('h1', {}, 'Connection test'),
        this.#summary,
        this.#list,
        el('div', { class: 'connectivity-actions' }, this.#again, this.#copy, back || undefined),
      ),
    )
    void this.#test()
  }

  async #test(): Promise<void> {
    const findings = (this.#findings = nothingYet())
    this.#again.disabled = this.#copy.disabled = true
    this.#refresh()
    try {
      await tryAll(this.#invitation.token, findings, () => {
        // What is still under way when a test has failed as a whole is of no interest.
        if (findings === this.#findings) this.#refresh()
      })
      this.#copy.disabled = false
    } catch (error) {
      this.#findings = nothingYet()
      this.#refuse(error as PlenumError)
    }
    this.#again.disabled = false
  }

  #refresh(): void {
    const { tone, title, advice } = conclude(this.#findings)
    this.#say(tone, title, advice)
    const { signal, ways } = this.#findings
    this.#list.replaceChildren(
      row('signal', signal, describeSignal(signal)),
      ...WAYS.map((way) => row(way, ways[way], describe(way, this.#findings))),
    )
  }

  #refuse(error: PlenumError): void {
    const { title, advice } = explain(error)
    this.#say('bad', title, advice)
    this.#list.replaceChildren()
  }

  #say(tone: string, title: string, advice: string): void {
    // Said again, a screen reader would repeat it.
    if (this.#summary.dataset['title'] === title) return
    this.#summary.dataset['title'] = title
    this.#summary.className = `conclusion is-${tone}`
    this.#summary.replaceChildren(el('strong', {}, title), el('p', {}, advice))
  }

  async #copyReport(): Promise<void> {
    const text = report(this.#findings, { server: location.host, browser: navigator.userAgent, at: new Date() })
    try {
      await navigator.clipboard.writeText(text)
      toast('The report is copied.')
    } catch {
      // Pages without HTTPS have no clipboard.
      prompt('Copy this:', text)
    }
  }
}

/** Tries everything at once; `changed` is called whenever there is something new in `findings`. */
async function tryAll(token: string, findings: Findings, changed: () => void): Promise<void> {
  const note = (way: Way, outcome: Outcome): void => {
    findings.ways[way] = outcome
    changed()
  }
  const signal = trySignal().then((outcome) => {
    findings.signal = outcome
    changed()
  })
  const room = await openTestRoom(token)
  // The first one brings the TURN servers for all; they are good for as long as it lasts.
  const first = new Attempt('udp', room, [])
  const attempts = [first]
  const running = [signal, first.outcome.then((outcome) => note('udp', outcome))]
  try {
    const { sdp, links } = await first.answered
    const servers = readIceServers(links)
    findings.places = placesOf(sdp, servers)
    for (const way of WAYS.slice(1)) {
      if (isRelay(way) && serversFor(way, servers).length === 0) {
        note(way, { at: 'absent' })
        continue
      }
      const attempt = new Attempt(way, room, servers)
      attempts.push(attempt)
      running.push(attempt.outcome.then((outcome) => note(way, outcome)))
    }
    await Promise.all(running)
  } finally {
    for (const attempt of attempts) attempt.end()
  }
}

const STATES = { waiting: 'trying', works: 'works', fails: 'does not work', absent: 'not offered' } as const

function row(way: Way | 'signal', outcome: Outcome, text: string): HTMLElement {
  const state = outcome.at === 'works' ? `${outcome.ms} ms` : outcome.at === 'waiting' ? '' : STATES[outcome.at]
  const mark = outcome.at === 'works' ? icon('check') : outcome.at === 'fails' ? icon('close') : undefined
  return el(
    'li',
    { class: `way is-${outcome.at}`, 'data-way': way, 'data-state': outcome.at },
    el('span', { class: 'way-mark', role: 'img', 'aria-label': STATES[outcome.at] }, mark),
    el('strong', { class: 'way-name' }, NAMES[way]),
    el('span', { class: 'way-state' }, state),
    el('p', { class: 'way-text' }, text),
  )
}

/** Without a token nothing can be tried: whoever wants to test has been invited somewhere. */
function askForLink(): void {
  const field = el('input', { class: 'input', type: 'url', placeholder: 'https://…/?room=…&token=…', required: true })
  const open = (event: Event): void => {
    event.preventDefault()
    const invitation = readInvitation(new URL(field.value).search)
    if (invitation.token) new ConnectivityPage(invitation)
    else toast('This link has no token in it.', 'problem')
  }
  show(
    el(
      'main',
      { class: 'message' },
      el('h1', {}, 'Connection test'),
      el('p', {}, 'Tries every way from your browser to this server. It needs the invitation link of a meeting; nobody there will notice.'),
      el(
        'form',
        { class: 'link-form', onsubmit: open },
        el('label', { class: 'field' }, el('span', { class: 'field-name' }, 'Invitation link'), field),
        el('button', { class: 'primary', type: 'submit' }, 'Test'),
      ),
    ),
  )
}
