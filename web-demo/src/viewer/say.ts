/** What the page says about where it stands. */
import type { Explanation } from '../errors'
import type { ViewerState } from './state'

/** A title, what to do or expect, and how it is to look. */
export interface Said extends Explanation {
  tone: 'busy' | 'quiet' | 'problem' | 'live'
}

/** Words for a state. */
export function say({ mode, phase, action, status }: ViewerState): Said {
  switch (phase.at) {
    case 'looking':
      return { title: 'Looking for the broadcast…', advice: '', tone: 'busy' }
    case 'waiting':
      return { title: 'The broadcast has not begun', advice: 'It starts here by itself as soon as it does.', tone: 'quiet' }
    case 'ended':
      return { title: 'The broadcast has ended', advice: 'When there is another one, it starts here by itself.', tone: 'quiet' }
    case 'offering':
      if (phase.isStopped) return { title: 'Stopped.', advice: '', tone: 'quiet' }
      return { title: 'No broadcast now', advice: 'You can look into the room as it is.', tone: 'quiet' }
    case 'loading':
      return { title: mode === 'instant' ? 'Connecting…' : 'Loading…', advice: '', tone: 'busy' }
    case 'retrying':
      if (phase.isStarting || status?.state === 'starting') return { title: 'The broadcast is starting…', advice: '', tone: 'busy' }
      return { title: 'Interrupted. Trying again…', advice: '', tone: 'busy' }
    case 'playing':
      return phase.isStalled ? { title: 'Waiting for more…', advice: '', tone: 'busy' } : { title: 'Live.', advice: '', tone: 'live' }
    case 'refused':
      return { ...phase.problem, tone: action ? 'problem' : 'quiet' }
  }
}

/** As one text, for a line or a screen reader. */
export function sentences({ title, advice }: Explanation): string {
  const isClosed = /[.…!?]$/.test(title)
  return advice ? `${title}${isClosed || !title ? '' : '.'} ${advice}`.trim() : title
}
