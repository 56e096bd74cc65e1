/** Turns the browser's cumulative statistics into the figures a person asks for. */

/** How one track travels at present; a figure is `undefined` while it is unknown. */
export interface TrackStats {
  kind: 'audio' | 'video'
  direction: 'in' | 'out'
  /** MIME subtype, such as `VP8`. */
  codec: string | undefined
  bitrateBps: number | undefined
  /** Share of packets lost since the last call, 0 to 1. */
  lossRatio: number | undefined
  jitterMs: number | undefined
  rttMs: number | undefined
  width: number | undefined
  height: number | undefined
  fps: number | undefined
  freezeCount: number | undefined
  /** Time a picture or sample waits before it is played. */
  jitterBufferMs: number | undefined
  /** Rid of each layer being sent, lowest first; outgoing video only. */
  layers: LayerStats[]
  /** Why the browser sends less than asked: `none`, `cpu`, `bandwidth`, `other`. */
  limitation: string | undefined
}

/** One outgoing layer. */
export interface LayerStats {
  rid: string
  width: number | undefined
  height: number | undefined
  fps: number | undefined
  bitrateBps: number | undefined
}

type Entry = Record<string, unknown> & { id: string; type: string; timestamp: number }

/** Computes rates between calls; one per track. */
export class StatsReader {
  #before = new Map<string, Entry>()

  /** Reads a report of a receiver or sender. */
  read(report: RTCStatsReport | ReadonlyMap<string, unknown>): TrackStats | undefined {
    const entries = new Map<string, Entry>()
    ;(report as ReadonlyMap<string, Entry>).forEach((entry) => entries.set(entry.id, entry))
    const all = [...entries.values()]
    const inbound = all.find((entry) => entry.type === 'inbound-rtp')
    const outbound = all.filter((entry) => entry.type === 'outbound-rtp')
    const stats = inbound
      ? this.#inbound(inbound, entries)
      : outbound.length > 0
        ? this.#outbound(outbound, entries)
        : undefined
    this.#before = entries
    return stats
  }

  #inbound(entry: Entry, entries: Map<string, Entry>): TrackStats {
    const lost = this.#delta(entry, 'packetsLost')
    const received = this.#delta(entry, 'packetsReceived')
    const emitted = this.#delta(entry, 'jitterBufferEmittedCount')
    const delay = this.#delta(entry, 'jitterBufferDelay')
    return {
      ...common(entry, entries, 'in'),
      bitrateBps: this.#rate(entry, 'bytesReceived'),
      lossRatio: ratio(lost, lost !== undefined && received !== undefined ? lost + received : undefined),
      jitterMs: toMs(number(entry['jitter'])),
      rttMs: pairRtt(entries),
      freezeCount: number(entry['freezeCount']),
      jitterBufferMs: toMs(ratio(delay, emitted)),
      layers: [],
      limitation: undefined,
    }
  }

  #outbound(list: Entry[], entries: Map<string, Entry>): TrackStats {
    const active = list.filter((entry) => entry['active'] !== false)
    const layers = active
      .map((entry) => ({
        rid: typeof entry['rid'] === 'string' ? entry['rid'] : '',
        width: number(entry['frameWidth']),
        height: number(entry['frameHeight']),
        fps: number(entry['framesPerSecond']),
        bitrateBps: this.#rate(entry, 'bytesSent'),
      }))
      .sort((a, b) => (a.width ?? 0) - (b.width ?? 0))
    const top = active.reduce(
      (best, entry) => ((number(entry['frameWidth']) ?? 0) >= (number(best['frameWidth']) ?? 0) ? entry : best),
      active[0] ?? list[0]!,
    )
    const remote = [...entries.values()].find((entry) => entry.type === 'remote-inbound-rtp')
    const bitrates = layers.map((layer) => layer.bitrateBps).filter((bps) => bps !== undefined)
    return {
      ...common(top, entries, 'out'),
      bitrateBps: bitrates.length > 0 ? bitrates.reduce((sum, bps) => sum + bps, 0) : undefined,
      lossRatio: number(remote?.['fractionLost']),
      jitterMs: toMs(number(remote?.['jitter'])),
      rttMs: toMs(number(remote?.['roundTripTime'])) ?? pairRtt(entries),
      freezeCount: undefined,
      jitterBufferMs: undefined,
      layers: top['kind'] === 'video' ? layers : [],
      limitation: text(top['qualityLimitationReason']),
    }
  }

  #delta(entry: Entry, key: string): number | undefined {
    const now = number(entry[key])
    const before = number(this.#before.get(entry.id)?.[key])
    return now === undefined || before === undefined ? undefined : Math.max(0, now - before)
  }

  #rate(entry: Entry, key: string): number | undefined {
    const bytes = this.#delta(entry, key)
    const elapsedMs = entry.timestamp - (this.#before.get(entry.id)?.timestamp ?? entry.timestamp)
    return bytes === undefined || elapsedMs <= 0 ? undefined : Math.round((bytes * 8000) / elapsedMs)
  }
}

function common(entry: Entry, entries: Map<string, Entry>, direction: 'in' | 'out') {
  const codec = text(entries.get(String(entry['codecId']))?.['mimeType'])
  const kind: TrackStats['kind'] = entry['kind'] === 'video' ? 'video' : 'audio'
  return {
    kind,
    direction,
    codec: codec?.split('/')[1],
    width: number(entry['frameWidth']),
    height: number(entry['frameHeight']),
    fps: number(entry['framesPerSecond']),
  }
}

function pairRtt(entries: Map<string, Entry>): number | undefined {
  for (const entry of entries.values()) {
    if (entry.type === 'candidate-pair' && entry['nominated'] === true && entry['state'] === 'succeeded') {
      return toMs(number(entry['currentRoundTripTime']))
    }
  }
  return undefined
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function ratio(part: number | undefined, whole: number | undefined): number | undefined {
  return part === undefined || !whole ? undefined : part / whole
}

function toMs(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : Math.round(seconds * 1000)
}
