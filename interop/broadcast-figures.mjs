// Measures broadcasts: how late a viewer sees, when parts are out, what it costs, whether sound and picture fit, and
// whether the room notices. BENCHMARKS.md says how each figure comes about. `--quick` takes a third of the time and
// leaves a little out, `--json` prints the numbers alone, `--only WORD…` measures a part: room, opus, encoder,
// forwarding.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { makeEncoderFile, publishFile } from './figures/encoder-file.mjs';
import { openSource, sourceDuring, startBroadcast } from './figures/broadcast.mjs';
import { measureForwarding } from './figures/forwarding.mjs';
import { listen, now } from './figures/listener.mjs';
import { recordedMessages, recordedParts, spread } from './figures/measured.mjs';
import { openViewerPage, startPlayerSite, watch } from './figures/player.mjs';
import { measurePassthrough } from './figures/passthrough.mjs';
import { share } from './figures/processor.mjs';
import { startSink } from './figures/rtmp-sink.mjs';
import { table } from './figures/table.mjs';
import { launchChromium } from './lib/browser.mjs';
import { freePort, startServer } from './lib/server.mjs';
import { eventually, sleep } from './lib/wait.mjs';

const args = process.argv.slice(2);
const isQuick = args.includes('--quick');
const isJson = args.includes('--json');
const only = args.includes('--only') ? args.slice(args.indexOf('--only') + 1).filter((word) => !word.startsWith('--')) : [];

/** How long what is looked at, in s. */
const TIMES = isQuick
  ? { settle: 3, watch: 15, page: 0, plain: 10, idle: 4, busy: 10, load: 6, encoder: 16, forwarding: 5, rounds: 1 }
  : { settle: 5, watch: 50, page: 30, plain: 50, idle: 6, busy: 10, load: 20, encoder: 40, forwarding: 10, rounds: 3 };
const VIEWERS = 100;
const ROOM = 'clock';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-broadcast-'));
const progress = (text) => isJson || console.error(`${Math.round(performance.now() / 1000)} s: ${text}`);
const started = { load: os.loadavg()[0], at: new Date().toISOString() };
const figures = {};
const parts = {
  room: () => inRoom('aac', measureRoom),
  opus: () => inRoom('opus', measureOpus),
  encoder: measureEncoder,
  forwarding: () => measureForwarding({ seconds: TIMES.forwarding, rounds: TIMES.rounds }, progress),
};
try {
  for (const [name, measure] of Object.entries(parts)) {
    if (only.length > 0 && !only.includes(name)) continue;
    // What one part of it makes impossible need not take the others along.
    figures[name] = await measure().catch((error) => ({ error: error.stack }));
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
figures.conditions = {
  ...started, quick: isQuick, cores: os.cpus().length, processor: os.cpus()[0].model, loadAtEnd: os.loadavg()[0],
  seconds: Math.round(performance.now() / 1000),
};
console.log(isJson ? JSON.stringify(figures) : table(figures));
if (Object.values(figures).some(({ error }) => error)) process.exitCode = 1;

/** A server whose sound is coded as `audio`, and Chromium that publishes in a room of it. */
async function inRoom(audio, measure) {
  const server = await startServer({ config: { broadcast: { audio } } });
  const chromium = await launchChromium();
  try {
    progress(`publishing, sound to go out as ${audio}`);
    const source = await openSource(chromium, server, ROOM);
    const result = await measure(server, chromium, source);
    server.assertHealthy();
    return result;
  } finally {
    await chromium.close();
    await server.stop();
  }
}

async function measureRoom(server, chromium, source) {
  progress('processor time');
  const { cpu } = await measurePassthrough(server, ROOM, TIMES);

  progress('a viewer, Low-Latency HLS, and a push');
  const broadcast = await startBroadcast(server, ROOM);
  const ears = await listen(broadcast.url);
  const site = await startPlayerSite();
  const sink = await startSink();
  const target = await broadcast.addTarget(sink.url, 'key');
  await eventually('the push to begin', () => sink.messages.length > 0);
  const low = await site.open(chromium, broadcast.url, { lowLatencyMode: true });
  const from = now();
  const watched = await sourceDuring(source, () => watch(low, { settleS: TIMES.settle, seconds: TIMES.watch }));
  const to = now();
  await low.close();
  await broadcast.removeTarget(target);
  sink.stop();

  const viewerPage = TIMES.page ? await watchPage(server, chromium) : null;

  progress(`${VIEWERS} viewers`);
  const load = await loadViewers(server, broadcast.url);
  const followed = await share(server.pid, TIMES.busy);

  progress('plain HLS, two players');
  const pages = [];
  for (const config of [{ lowLatencyMode: false }, null]) pages.push(await site.open(chromium, broadcast.url, config));
  const times = { settleS: TIMES.settle, seconds: TIMES.plain };
  const [plain, native] = await Promise.allSettled(pages.map((each) => watch(each, times)));
  for (const each of pages) await each.close();
  site.stop();

  const errors = [...ears.video.errors, ...ears.audio.errors];
  await ears.stop();
  await broadcast.end();
  progress('what was recorded');
  const span = { video: await ears.video.recorded(from, to), audio: await ears.audio.recorded(from, to) };
  return {
    source: watched.source,
    lowLatency: watched.result,
    viewerPage,
    plain: settled(plain),
    native: settled(native),
    parts: await recordedParts(folder, span, { hasClock: true }),
    push: await recordedMessages(folder, sink.messages, { hasClock: true }),
    cpu: { ...cpu, viewers: load.cpu - followed },
    viewers: load,
    listenerErrors: errors.slice(0, 5),
  };
}

/** The server's own page for viewers. */
async function watchPage(server, chromium) {
  progress('the viewer page');
  const page = await openViewerPage(chromium, server, ROOM);
  const watched = await watch(page, { settleS: TIMES.settle, seconds: TIMES.page });
  await page.close();
  return watched;
}

/** One of two things that may fail, as a figure. */
function settled({ status, value, reason }) {
  return status === 'fulfilled' ? value : { error: reason.message };
}

/** What many viewers cost, and whether they got all. Parts must still come in time meanwhile. */
async function loadViewers(server, url) {
  const script = path.join(import.meta.dirname, 'figures', 'viewers.mjs');
  const command = [script, url, String(VIEWERS), String(TIMES.load)];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  const killAtExit = () => child.kill('SIGKILL');
  process.on('exit', killAtExit);
  const ended = once(child, 'close');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  const ears = await listen(url);
  const cpu = await share(server.pid, TIMES.load - 1);
  const published = await meanwhile(ears);
  const { value } = await lines.next();
  await ended;
  process.off('exit', killAtExit);
  if (!value) throw new Error('the viewers ended before they were done');
  return { ...JSON.parse(value), cpu, published };
}

/** How long after its newest frame a part was out, by EXT-X-PROGRAM-DATE-TIME, in ms. */
async function meanwhile(ears) {
  await ears.stop();
  const { frames } = await ears.video.recorded(0, Infinity);
  const newest = frames.filter((frame, n) => frames[n + 1]?.part !== frame.part);
  return spread(newest.map(({ part, dateMs }) => part.at - dateMs));
}

async function measureOpus(server, _chromium, source) {
  progress('processor time, Opus');
  const measured = await sourceDuring(source, () => measurePassthrough(server, ROOM, TIMES));
  const { ears, from, to, cpu } = measured.result;
  const span = { video: await ears.video.recorded(from, to), audio: await ears.audio.recorded(from, to) };
  return { source: measured.source, parts: await recordedParts(folder, span, { hasClock: true }), cpu };
}

/** ffmpeg publishes into a room by RTMP: sound and picture of its file fit exactly. */
async function measureEncoder() {
  progress('making what an encoder publishes');
  const { file, messages } = await makeEncoderFile(folder, TIMES.encoder + TIMES.busy + TIMES.idle * 2 + 60);
  const port = await freePort();
  const server = await startServer({ config: { broadcast: { audio: 'aac', rtmp_addr: `127.0.0.1:${port}` } } });
  let encoder;
  const sink = await startSink();
  try {
    encoder = publishFile(file, `rtmp://127.0.0.1:${port}/live/${ROOM}?token=${await server.token(ROOM, 'encoder')}`);
    await sleep(3000);
    progress('an encoder by RTMP');
    const { cpu } = await measurePassthrough(server, ROOM, { ...TIMES, rounds: 1 });
    const broadcast = await startBroadcast(server, ROOM);
    const ears = await listen(broadcast.url);
    await broadcast.addTarget(sink.url, 'key');
    const from = now();
    await sleep(TIMES.encoder * 1000);
    const to = now();
    await ears.stop();
    await broadcast.end();
    if (encoder.errors()) throw new Error(`the encoder: ${encoder.errors()}`);
    server.assertHealthy();
    const span = { video: await ears.video.recorded(from, to), audio: await ears.audio.recorded(from, to) };
    return {
      file: (await recordedMessages(folder, messages, { hasClock: false })).offset,
      parts: await recordedParts(folder, span, { hasClock: false }),
      push: await recordedMessages(folder, sink.messages, { hasClock: false }),
      cpu,
    };
  } finally {
    sink.stop();
    await encoder?.stop();
    await server.stop();
  }
}
