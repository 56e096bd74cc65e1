// Takes joining apart: when each step was done, by the client's marks and by the server's log.
import { percentile } from './wait.mjs';

/** The server's log must have these lines: `[log] level` of a server whose joins are taken apart. */
export const LOG_LEVEL = 'info,sfu=debug';

/** What the server says of one peer, and the step it ends. */
const SERVER_STEPS = {
  'an offer was answered': 'planned',
  'a path passed its check': 'path',
  'the handshake is done': 'keys',
  'the first picture goes out': 'forwarded',
};

/** Steps in the order in which they usually end, and what each time is spent on. */
const STEPS = [
  ['offered', 'client: offer made and set'],
  ['opened', 'client: WebSocket open'],
  ['planned', 'server: token checked, offer answered'],
  ['welcomed', 'client: welcome with the answer received'],
  ['answered', 'client: answer set'],
  ['path', 'server: first connectivity check passed'],
  ['checked', 'client: ICE connected'],
  ['keys', 'server: DTLS done, keyframe asked for'],
  ['secured', 'client: DTLS connected'],
  ['forwarded', 'server: first video packet sent'],
  ['frame', 'client: first frame decoded'],
];

/**
 * Completes a join's marks (milliseconds since it began) with the server's.
 *
 * `join` is `{ participant, beganAt, marks }`, `beganAt` by the wall clock, which both sides share.
 */
export function withServerSteps(join, log) {
  const marks = { ...join.marks };
  for (const line of log.split('\n')) {
    const step = Object.entries(SERVER_STEPS).find(([text]) => line.includes(text))?.[1];
    const participant = line.match(/participant=(\S+)/)?.[1];
    if (!step || participant !== join.participant) continue;
    marks[step] ??= Date.parse(line.split(/\s/)[0]) + microseconds(line) - join.beganAt;
  }
  return marks;
}

/** The part of a log line's time that `Date.parse` leaves out, in milliseconds. */
function microseconds(line) {
  return Number(line.match(/\.\d{3}(\d{1,3})Z/)?.[1].padEnd(3, '0') ?? 0) / 1000;
}

/** A table of when each step was done and how long it took: medians of several groups of joins. */
export function phaseTable(groups) {
  const median = (joins, of) => {
    const values = joins.map(of).filter((value) => Number.isFinite(value));
    return values.length ? percentile(values, 0.5) : NaN;
  };
  const cell = (value) => (Number.isFinite(value) ? value.toFixed(0) : '-').padStart(7);
  const names = Object.keys(groups);
  const head = names.map((name) => `${name} at`.padStart(13) + 'took'.padStart(7));
  const lines = [`${''.padEnd(44)}${head.join('')}`];
  for (const [at, [step, text]] of STEPS.entries()) {
    const cells = names.map((name) => {
      // A step took as long as it ended after the latest one listed before it.
      const before = (marks) => Math.max(0, ...STEPS.slice(0, at).map(([s]) => marks[s] ?? 0));
      const took = median(groups[name], (marks) => Math.max(0, marks[step] - before(marks)));
      return ' '.repeat(6) + cell(median(groups[name], (marks) => marks[step])) + cell(took);
    });
    lines.push(text.padEnd(44) + cells.join(''));
  }
  return lines.join('\n');
}
