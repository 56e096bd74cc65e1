/** Why a chat message was not sent. */
import { PlenumError } from '@plenum/client'

/** A short text for beside the message. */
export function whyNotSent(error: unknown): string {
  if (error instanceof PlenumError && error.code === 'forbidden') return 'Not sent: you may not write here.'
  return 'Not sent: the connection is down.'
}
