// What a broadcast costs: processor time of a server with one that a client follows, less the same room without.
import { percentile, sleep } from '../lib/wait.mjs';
import { startBroadcast } from './broadcast.mjs';
import { listen, now } from './listener.mjs';
import { mean, share } from './processor.mjs';

/** Between the first part a client gets and the stretch that counts, in s: what begins is not what goes on. */
const SETTLE = 7;

/**
 * Begins and ends a broadcast of `room` some times; each costs what the server takes with it less the mean of the
 * stretches without it before and after, and the median of these is the figure: a machine that others share changes
 * its pace within minutes. `busy` and `idle` are in s. `ears` recorded the last broadcast, `from` to `to`: from the middle
 * of its settling on, for ten seconds have nine beeps that are whole.
 */
export async function measurePassthrough(server, room, { rounds, busy, idle }) {
  const without = [await share(server.pid, idle)];
  const with_ = [];
  let last;
  while (with_.length < rounds) {
    const broadcast = await startBroadcast(server, room);
    const ears = await listen(broadcast.url);
    const from = now() + (SETTLE * 1000) / 2;
    await sleep(SETTLE * 1000);
    with_.push(await share(server.pid, busy));
    last = { ears, from, to: now() };
    await ears.stop();
    await broadcast.end();
    await sleep(1000);
    without.push(await share(server.pid, idle));
  }
  const costs = with_.map((value, n) => value - mean(without.slice(n, n + 2)));
  return { ...last, cpu: { idle: without, busy: with_, passthrough: percentile(costs, 0.5) } };
}
