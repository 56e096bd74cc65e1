/** Figures of a broadcast as people read them. */

/** How far behind the room this viewer sees it. */
export function latencyText(seconds: number | undefined): string {
  if (seconds === undefined || !Number.isFinite(seconds)) return ''
  const behind = Math.max(0, seconds)
  if (behind < 9.95) return `${behind.toFixed(1)} s behind`
  if (behind < 59.5) return `${Math.round(behind)} s behind`
  return `${Math.max(1, Math.round(behind / 60))} min behind`
}

/** How many watch, the reader included. */
export function viewersText(count: number): string {
  return count === 1 ? '1 viewer' : `${count.toLocaleString('en')} viewers`
}

/** How long it has been on; empty when that is not known. */
export function sinceText(startedAt: string | undefined, nowMs: number): string {
  const minutes = Math.floor((nowMs - Date.parse(startedAt ?? '')) / 60_000)
  if (Number.isNaN(minutes) || minutes < 1) return ''
  if (minutes < 60) return `on for ${minutes} min`
  return `on for ${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
