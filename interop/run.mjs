// Runs the interop tests one file after the other, each under a time limit that really ends it, in a
// network namespace of its own where that is allowed: nothing in it can reach another machine, and
// its addresses are the same everywhere. `node run.mjs [word…]` runs the files whose name has a word
// in it; `--bench-join [options]` measures the time to join instead (see join-time.mjs), and
// `--bench-broadcast [options]` broadcasts (see broadcast-figures.mjs).
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { BINARY } from './lib/server.mjs';

const FILE_LIMIT_S = 300;
const here = import.meta.dirname;
const args = process.argv.slice(2);

if (!process.env.PLENUM_INTEROP_NAMESPACE) {
  const flags = [['--net'], ['--map-root-user', '--net']].find((f) => spawnSync('unshare', [...f, 'true']).status === 0);
  if (flags && fs.existsSync('/usr/sbin/ip')) process.exit(inNamespace(flags));
  console.log('no network namespace to be had: the tests use this machine\'s own addresses');
}
if (!fs.existsSync(BINARY)) {
  console.error(`no server to test at ${BINARY}: run "make build" first`);
  process.exit(2);
}
const benches = { '--bench-join': ['join-time.mjs', FILE_LIMIT_S], '--bench-broadcast': ['broadcast-figures.mjs', 780] };
if (benches[args[0]]) {
  const [file, limitS] = benches[args[0]];
  process.exit((await run([path.join(here, file), ...args.slice(1)], 'inherit', limitS)).code);
}

// Each server writes a log of its own there; the newest run's are kept.
const logs = path.join(here, '..', '.cache', 'logs', 'interop');
fs.rmSync(logs, { recursive: true, force: true });
fs.mkdirSync(logs, { recursive: true });
process.env.PLENUM_INTEROP_LOGS = logs;

const files = fs.readdirSync(path.join(here, 'tests')).sort(new Intl.Collator('en', { numeric: true }).compare)
  .filter((file) => file.endsWith('.test.mjs') && (args.length === 0 || args.some((word) => file.includes(word))));
const total = { passed: 0, failed: 0, skipped: 0 };
for (const file of files) {
  const started = Date.now();
  const { code, output } = await run(['--test', '--test-reporter=spec', path.join(here, 'tests', file)], 'pipe');
  const count = (word) => Number(output.match(new RegExp(`^ℹ ${word} (\\d+)$`, 'm'))?.[1] ?? 0);
  const [passed, skipped] = [count('pass'), count('skipped')];
  // A file that was ended by its limit, or died, counts as one failure.
  const failed = Math.max(count('fail') + count('cancelled'), code === 0 && passed + skipped > 0 ? 0 : 1);
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
  const seconds = Math.round((Date.now() - started) / 1000);
  console.log(`${failed ? 'FAILED' : 'ok    '} ${file.replace('.test.mjs', '')}: ${passed} passed, ${failed} failed, ${skipped} skipped (${seconds} s)`);
  // What was measured, and why something was left out.
  const notes = [...output.matchAll(/^ℹ (?!\w+ [\d.]+$)(.*)$/gm)].map(([, text]) => text);
  const reasons = [...output.matchAll(/^﹣ .* # (.*)$/gm)].map(([, text]) => `skipped: ${text}`);
  for (const line of new Set([...notes, ...reasons])) console.log(`    ${line}`);
  if (failed) console.log(output.split('✖ failing tests:')[0].replace(/^/gm, '    '));
  if (code === 137) console.log(`    ended after ${FILE_LIMIT_S} s`);
}
if (total.failed) console.log(`the servers' logs are in ${path.relative(process.cwd(), logs)}`);
console.log(`interop: ${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed || !total.passed ? 1 : 0);

/** Runs node under `timeout`, which kills what does not end in time (browser drivers catch TERM). */
function run(nodeArgs, output, limitS = FILE_LIMIT_S) {
  const limit = ['-k', '5', String(limitS), process.execPath];
  const child = spawn('timeout', [...limit, ...nodeArgs], { stdio: ['ignore', output, output] });
  let text = '';
  child.stdout?.on('data', (chunk) => (text += chunk));
  child.stderr?.on('data', (chunk) => (text += chunk));
  return new Promise((resolve) => {
    child.on('close', (code) => resolve({ code: code ?? 1, output: text.replace(/\x1b\[[0-9;]*m/g, '') }));
  });
}

/** Loopback, and one address of the benchmarking range (RFC 2544) with a route that leads nowhere. */
function inNamespace(flags) {
  const setUp = `
    set -e; PATH=/usr/sbin:/sbin:$PATH
    ip link set lo up
    ip link add here type veth peer name nowhere
    ip address add 198.18.0.1/24 dev here
    ip link set here up; ip link set nowhere up
    ip route add default via 198.18.0.2
    exec "$@"`;
  const { status } = spawnSync('unshare', [...flags, 'sh', '-c', setUp, 'sh', process.execPath, import.meta.filename, ...args], {
    stdio: 'inherit',
    env: { ...process.env, PLENUM_INTEROP_NAMESPACE: '1' },
  });
  return status ?? 1;
}
