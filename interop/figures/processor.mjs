// Processor time of a process, as Linux counts it.
import fs from 'node:fs';
import { sleep } from '../lib/wait.mjs';

/** Ticks a second of /proc; the same on every Linux that matters. */
const TICKS = 100;

/** User and system time of a process with all its threads, in s (proc(5)). */
function spent(pid) {
  const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** What share of a core a process takes for some seconds, in %. */
export async function share(pid, seconds) {
  const [before, start] = [spent(pid), performance.now()];
  await sleep(seconds * 1000);
  return ((spent(pid) - before) * 100_000) / (performance.now() - start);
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
