/** Figures as people read them. */
import type { TrackStats } from '@plenum/client'

/** Bits per second with a fitting unit. */
export function bitrate(bps: number | undefined): string {
  if (bps === undefined) return '–'
  if (bps >= 1_000_000) return `${(bps / 1_000_000).toFixed(2)} Mbit/s`
  return `${Math.round(bps / 1000)} kbit/s`
}

/** A share of one as per cent. */
export function percent(ratio: number | undefined): string {
  return ratio === undefined ? '–' : `${(ratio * 100).toFixed(ratio < 0.1 ? 1 : 0)} %`
}

/** Lines of the overlay: a name and its figure. */
export function statsLines(stats: TrackStats): [string, string][] {
  const ms = (value: number | undefined) => (value === undefined ? '–' : `${Math.round(value)} ms`)
  const lines: [string, string][] = []
  if (stats.kind === 'video') {
    const size = stats.width ? `${stats.width}×${stats.height}` : '–'
    lines.push(['Picture', `${size} · ${Math.round(stats.fps ?? 0)} fps`])
  }
  lines.push(['Codec', stats.codec ?? '–'], ['Rate', bitrate(stats.bitrateBps)])
  lines.push(['Loss', percent(stats.lossRatio)], ['Jitter', ms(stats.jitterMs)], ['Round trip', ms(stats.rttMs)])
  if (stats.direction === 'in') lines.push(['Buffer', ms(stats.jitterBufferMs)])
  if (stats.direction === 'in' && stats.kind === 'video') lines.push(['Freezes', String(stats.freezeCount ?? 0)])
  for (const layer of stats.layers.length > 1 ? stats.layers : []) {
    const size = layer.width ? `${layer.width}×${layer.height} · ` : ''
    lines.push([`Layer ${layer.rid}`, layer.bitrateBps ? size + bitrate(layer.bitrateBps) : 'idle'])
  }
  if (stats.limitation && stats.limitation !== 'none') lines.push(['Limited by', stats.limitation])
  return lines
}
