/** Whom the speaker view shows large. */

/** What the choice looks at; times in milliseconds of one clock. */
export interface Candidate {
  isLocal: boolean
  isScreen: boolean
  isSpeaking: boolean
  /** When it last spoke, 0 for never. */
  spokeAt: number
}

/** How long somebody stays large after the last word, so that the view does not flap. */
export const HOLD_MS = 1500

/**
 * A screen of another first, then who speaks. Whoever is large stays so while speaking, for
 * `HOLD_MS` after, and until somebody else speaks.
 */
export function chooseMain<T extends Candidate>(all: readonly T[], current: T | undefined, now: number): T | undefined {
  let best: T | undefined
  for (const one of all) if (!best || rank(one) > rank(best)) best = one
  if (!best || !current || best.isScreen || !all.includes(current) || current.isLocal || current.isScreen) return best
  const isHeld = current.isSpeaking || now - current.spokeAt < HOLD_MS
  return best.isSpeaking && !(isHeld && current.spokeAt > 0) ? best : current
}

function rank({ isLocal, isScreen, isSpeaking, spokeAt }: Candidate): number {
  if (isLocal) return isScreen ? -1 : -2
  if (isScreen) return Infinity
  return isSpeaking ? Number.MAX_VALUE : spokeAt
}
