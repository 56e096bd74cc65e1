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
  return EXPLANATIONS[error.code] ?? { title: 'Something went wrong', advice: error.message }
}

const DEVICE_ADVICE: Readonly<Record<string, string>> = {
  device_denied: 'is blocked. Allow it in the address bar of your browser; you can take part without it.',
  device_not_found: 'was not found. You can take part without it.',
  device_in_use: 'is used by another program. Close that program and switch it on again.',
  device_overconstrained: 'is no longer there. Choose another one in the settings.',
  device_unsupported: 'needs a page served over HTTPS.',
}

/** Explains why a camera or microphone is not there. */
export function explainDevice(device: 'camera' | 'microphone', error: PlenumError): string {
  const name = device === 'camera' ? 'Your camera' : 'Your microphone'
  return `${name} ${DEVICE_ADVICE[error.code] ?? `cannot be used: ${error.message}`}`
}
