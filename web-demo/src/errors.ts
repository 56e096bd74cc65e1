/** What went wrong, in words for the person in front of the page. */
import type { PlenumError } from '@plenum/client'

/** A problem and what can be done about it. */
export interface Explanation {
  title: string
  advice: string
}

const EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  unreachable: { title: 'The server cannot be reached', advice: 'Check your connection, then try again.' },
  timeout: { title: 'The server does not answer', advice: 'It may be busy. Try again in a moment.' },
  connection_lost: { title: 'The connection was lost', advice: 'Check your connection, then try again.' },
  unauthorized: { title: 'This link is not valid', advice: 'Ask whoever invited you for a new one.' },
  token_expired: { title: 'This link has expired', advice: 'Ask whoever invited you for a new one.' },
  forbidden: { title: 'This link does not open this room', advice: 'Ask whoever invited you for the right one.' },
  room_not_found: { title: 'There is no such room', advice: 'It may have ended. Ask for a new link.' },
  room_full: { title: 'The room is full', advice: 'Try again when somebody has left.' },
  room_closed: { title: 'The meeting has ended', advice: 'The room was closed.' },
  duplicate_identity: { title: 'You are here a second time', advice: 'The newer window goes on; this one has stopped.' },
  removed: { title: 'You were removed from the room', advice: 'A moderator ended your stay.' },
  server_shutdown: { title: 'The server is restarting', advice: 'Try again in a minute.' },
  unsupported_version: { title: 'This page is out of date', advice: 'Reload it.' },
  rate_limited: { title: 'Too many attempts', advice: 'Wait a moment, then try again.' },
}

/** Explains why joining failed or a stay ended. */
export function explain(error: PlenumError): Explanation {
  if (error.code === 'wrong_room') return { title: error.message, advice: 'Ask whoever invited you for the right one.' }
  return EXPLANATIONS[error.code] ?? { title: 'Something went wrong', advice: error.message }
}

/** What is wrong, and what to do with `it` or `them`. */
const DEVICE_ADVICE: Readonly<Record<string, [problem: string, advice: (it: string) => string]>> = {
  device_denied: ['blocked', (it) => `Allow ${it} in your browser’s address bar, or take part without.`],
  device_not_found: ['not found', () => 'You can take part without.'],
  device_in_use: ['in use elsewhere', (it) => `Close the other program and switch ${it} on again.`],
  device_overconstrained: ['no longer there', () => 'Choose another one in the settings.'],
  device_unsupported: ['not available', (it) => `Browsers need a page served over HTTPS for ${it}.`],
}

/** Explains why devices are not there; those with the same problem share a sentence. */
export function explainDevice(device: 'camera' | 'microphone' | 'camera and microphone', error: PlenumError): string {
  const [problem, advice] = DEVICE_ADVICE[error.code] ?? ['not usable', () => error.message]
  const [are, them] = device.includes(' and ') ? ['are', 'them'] : ['is', 'it']
  return `Your ${device} ${are} ${problem}. ${advice(them)}`
}
