// Whether a room notices that it is broadcast: how long packets take through it, by the load tester's bots.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { BINARY, startServer } from '../lib/server.mjs';
import { eventually, percentile } from '../lib/wait.mjs';
import { startBroadcast } from './broadcast.mjs';

/** The load tester; `PLENUM_LOADTEST_BIN` names another one. */
const LOADTEST = process.env.PLENUM_LOADTEST_BIN ?? path.join(path.dirname(BINARY), 'plenum-loadtest');

/** The room's own delay, in turn without and with a broadcast of it. */
export async function measureForwarding({ seconds, rounds }, progress) {
  if (!fs.existsSync(LOADTEST)) throw new Error(`no ${LOADTEST}: make bench-broadcast builds it`);
  const limits = { joins_per_second: 100_000, joins_burst: 100_000 };
  const server = await startServer({ config: { limits, log: { level: 'warn' } } });
  const last = os.cpus().length - 1;
  // As `make load` does it: the server has the first core, the bots have the last.
  if (last > 0) spawnSync('taskset', ['-a', '-p', '-c', '0', String(server.pid)], { stdio: 'ignore' });
  const runs = { without: [], with: [] };
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const which of ['without', 'with']) {
        progress(`forwarding ${which} a broadcast`);
        const seed = round * 2 + (which === 'with' ? 2 : 1);
        const broadcast = which === 'with' && await startBroadcast(server, `load-${seed}-0`, {}, { isEmpty: true });
        const run = loadtest(server, seed, { core: last, seconds });
        if (broadcast) {
          // Its pictures are none, but are packed as if they were.
          await eventually('the broadcast of the bots', async () => {
            const seen = await broadcast.view();
            return { ok: seen.state === 'live' && seen.onAir.video === 'picture', ...seen };
          });
        }
        runs[which].push(await run);
        if (broadcast) await broadcast.end();
      }
    }
    server.assertHealthy();
  } finally {
    await server.stop();
  }
  const median = (which, field) => percentile(runs[which].map((run) => run[field]), 0.5);
  const change = (field) => median('with', field) - median('without', field);
  return { runs, p50: change('p50'), p99: change('p99'), without: median('without', 'p99'), with: median('with', 'p99') };
}

async function loadtest(server, seed, { core, seconds }) {
  const command = [
    '--server', server.url, '--preset', 'meeting', '--video', 'h264', '--seed', String(seed),
    '--warmup', '3s', '--duration', `${seconds}s`, '--settle', '0s', '--quiet', '--json', '--server-pid', String(server.pid),
  ];
  const child = spawn('taskset', ['-c', String(core), LOADTEST, ...command], {
    stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PLENUM_LOADTEST_KEY: server.key },
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const text = { out: '', err: '' };
  child.stdout.on('data', (piece) => (text.out += piece));
  child.stderr.on('data', (piece) => (text.err += piece));
  const killAtExit = () => child.kill('SIGKILL');
  process.on('exit', killAtExit);
  const [code] = await once(child, 'close');
  process.off('exit', killAtExit);
  clearTimeout(timer);
  if (code !== 0) {
    throw new Error(`plenum-loadtest ended (${code}): ${text.err.slice(-1000)} ${text.out.slice(-1000)}`);
  }
  const [report] = JSON.parse(text.out);
  const { delay_ms: delay, received } = report;
  return { p50: delay.p50, p99: delay.p99, loss: received.loss_percent, packets: received.packets_per_second };
}
