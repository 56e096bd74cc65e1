/** The rungs of a broadcast's ladder as choices of a menu. */

/** One rendition; sizes are 0 where there is no picture. */
export interface Rung {
  height: number
  frameRate: number
  bitrate: number
}

/** A choice; `level` is the rung's place in the player's list. */
export interface QualityChoice {
  level: number
  text: string
}

/** The player chooses by what the connection carries. */
export const AUTO = -1

/** Best first, one per name: of two rungs that read alike the one with more bits. */
export function qualityChoices(rungs: readonly Rung[]): QualityChoice[] {
  const best = new Map<string, { rung: Rung; level: number }>()
  rungs.forEach((rung, level) => {
    const name = rungName(rung)
    const other = best.get(name)
    if (!other || rung.bitrate > other.rung.bitrate) best.set(name, { rung, level })
  })
  return [...best.entries()]
    .sort(([, a], [, b]) => b.rung.height - a.rung.height || b.rung.bitrate - a.rung.bitrate)
    .map(([text, { level }]) => ({ text, level }))
}

/** "720p", "720p50" where it is more than 30 pictures a second. */
export function rungName({ height, frameRate }: Rung): string {
  if (!height) return 'Sound only'
  return `${height}p${frameRate > 31 ? Math.round(frameRate) : ''}`
}

/** What the button says: what was chosen, and what that gives just now. */
export function qualityLabel(rungs: readonly Rung[], chosen: number, shown: number): string {
  const rung = rungs[chosen === AUTO ? shown : chosen]
  if (chosen !== AUTO && rung) return rungName(rung)
  return rung ? `Auto (${rungName(rung)})` : 'Auto'
}
