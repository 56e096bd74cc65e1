/** Reads the Prometheus text format. */

/** One sample. */
export interface Sample {
  name: string
  /** Label pairs as written, without braces; empty when there are none. */
  labels: string
  value: number
}

/** A metric with its samples. */
export interface Metric {
  name: string
  help: string
  type: string
  samples: Sample[]
}

/** Takes a scrape apart, in its order; lines it does not understand are left out. */
export function parseMetrics(text: string): Metric[] {
  const metrics = new Map<string, Metric>()
  const metric = (name: string): Metric => {
    let one = metrics.get(name)
    if (!one) metrics.set(name, (one = { name, help: '', type: 'untyped', samples: [] }))
    return one
  }
  for (const line of text.split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line)
    if (comment) {
      const [, what, name = '', rest = ''] = comment
      if (what === 'HELP') metric(name).help = rest
      else metric(name).type = rest
      continue
    }
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line)
    if (!sample) continue
    const [, name = '', labels = '', value = ''] = sample
    // Histograms announce a family and sample its parts.
    const family = name.replace(/_(bucket|sum|count)$/, '')
    metric(metrics.has(family) ? family : name).samples.push({ name, labels, value: Number(value) })
  }
  return [...metrics.values()].filter(({ samples }) => samples.length > 0)
}

/** Change per second of a counter between two scrapes; `undefined` when it cannot be told. */
export function ratePerSecond(now: number, before: number | undefined, elapsedMs: number): number | undefined {
  if (before === undefined || elapsedMs <= 0 || now < before) return undefined
  return ((now - before) * 1000) / elapsedMs
}
