/** The page `/stats`: the server's own figures, where it shows them. */
import { el, show } from './dom'
import { parseMetrics, ratePerSecond } from './metrics-text'
import type { Metric } from './metrics-text'

const EVERY_MS = 2000

/** Shows the page and keeps it fresh. */
export function openFigures(): void {
  document.title = 'Figures · Plenum'
  const state = el('p', { class: 'viewer-state', role: 'status' }, 'Reading…')
  const list = el('div', { class: 'figures-list' })
  const test = el('a', { class: 'quiet-link', href: '/connectivity' }, 'Test the connection from this browser')
  show(el('main', { class: 'figures' }, el('h1', {}, 'This server'), test, state, list))
  let before = new Map<string, number>()
  let readMs = 0

  const read = async (): Promise<void> => {
    try {
      const response = await fetch('/metrics', { cache: 'no-store' })
      if (!response.ok) throw new Error(`the server answered ${response.status}`)
      const metrics = parseMetrics(await response.text())
      const nowMs = performance.now()
      const old = before
      before = new Map(metrics.flatMap(({ samples }) => samples.map((one) => [one.name + one.labels, one.value])))
      list.replaceChildren(...metrics.filter(isOurs).map((metric) => table(metric, old, readMs ? nowMs - readMs : 0)))
      readMs = nowMs
      state.textContent = `Read every ${EVERY_MS / 1000} s from /metrics.`
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      state.textContent = `The figures cannot be read from here (${why}). The server shows them to its own machine only, or on its admin address.`
    }
  }
  void read()
  setInterval(() => {
    if (!document.hidden) void read()
  }, EVERY_MS)
}

function isOurs({ name, type }: Metric): boolean {
  return type !== 'histogram' && (name.startsWith('plenum_') || name.startsWith('process_'))
}

function table(metric: Metric, before: ReadonlyMap<string, number>, elapsedMs: number): HTMLElement {
  const rows = metric.samples.map(({ name, labels, value }) => {
    const rate = metric.type === 'counter' ? ratePerSecond(value, before.get(name + labels), elapsedMs) : undefined
    return el(
      'tr',
      {},
      el('th', { scope: 'row' }, labels || '–'),
      el('td', {}, format(value)),
      el('td', { class: 'figures-rate' }, rate === undefined ? '' : `${format(rate)}/s`),
    )
  })
  return el(
    'section',
    { class: 'figures-metric' },
    el('h2', {}, metric.name.replace(/^plenum_/, '').replaceAll('_', ' ')),
    el('p', {}, metric.help),
    el('table', {}, el('tbody', {}, ...rows)),
  )
}

function format(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 0 })
}
