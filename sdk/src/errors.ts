/** The one error type of the SDK and its stable codes. */

import type { ErrorCode as ServerErrorCode } from './generated/protocol'

export type { ServerErrorCode }

/** Codes that arise in the browser. */
export type LocalErrorCode =
  | 'aborted' | 'timeout' | 'unreachable' | 'connection_lost' | 'not_connected' | 'bad_url'
  | 'media_failed' | 'device_denied' | 'device_not_found' | 'device_in_use'
  | 'device_overconstrained' | 'device_failed' | 'device_unsupported' | 'ended'

/** Every code a {@link PlenumError} can carry; a newer server may send one not listed here. */
export type ErrorCode = ServerErrorCode | LocalErrorCode | (string & {})

const RETRYABLE: ReadonlySet<string> = new Set([
  'timeout', 'unreachable', 'connection_lost', 'rate_limited', 'slow_consumer', 'server_shutdown',
  'internal', 'resume_unknown', 'device_in_use',
])

/** What every rejected promise of the SDK carries. */
export class PlenumError extends Error {
  override readonly name = 'PlenumError'
  /** Stable, meant for programs; `message` is meant for people. */
  readonly code: ErrorCode
  /** The same call may succeed later without a change of its arguments. */
  readonly retryable: boolean

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.retryable = RETRYABLE.has(code)
  }
}

/** Turns whatever was thrown into a {@link PlenumError}. */
export function toPlenumError(error: unknown, code: ErrorCode = 'internal'): PlenumError {
  if (error instanceof PlenumError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new PlenumError(code, message, error)
}

/** Names the reason why a device could not be opened. */
export function deviceError(error: unknown): PlenumError {
  if (error instanceof PlenumError) return error
  const name = error instanceof Error ? error.name : ''
  const code = DEVICE_CODES[name] ?? 'device_failed'
  return new PlenumError(code, error instanceof Error ? error.message : String(error), error)
}

const DEVICE_CODES: Readonly<Record<string, LocalErrorCode>> = {
  NotAllowedError: 'device_denied',
  SecurityError: 'device_denied',
  NotFoundError: 'device_not_found',
  NotReadableError: 'device_in_use',
  AbortError: 'device_in_use',
  OverconstrainedError: 'device_overconstrained',
  TypeError: 'device_unsupported',
}
