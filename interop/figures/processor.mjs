// Processor time of a process, as Linux counts it.
import fs from 'node:fs';
import { sleep } from '../lib/wait.mjs';

/**
 * What each thread of a process has run, in ns (proc(5), schedstat). The process's own sum counts in hundredths of a
 * second, which is a tenth of a percent of ten seconds.
 */
function threads(pid) {
  const folder = `/proc/${pid}/task`;
  const run = (thread) => {
    try {
      return Number(fs.readFileSync(`${folder}/${thread}/schedstat`, 'utf8').split(' ')[0]);
    } catch (error) {
      // It ended after the folder was read.
      if (error.code === 'ENOENT' || error.code === 'ESRCH') return 0;
      throw error;
    }
  };
  return new Map(fs.readdirSync(folder).map((thread) => [thread, run(thread)]));
}

/** What share of a core a process takes for some seconds, in %; threads that end meanwhile are not in it. */
export async function share(pid, seconds) {
  const [before, start] = [threads(pid), performance.now()];
  await sleep(seconds * 1000);
  const [after, end] = [threads(pid), performance.now()];
  let ran = 0;
  for (const [thread, ns] of after) ran += Math.max(0, ns - (before.get(thread) ?? 0));
  return ran / 1e4 / (end - start);
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
