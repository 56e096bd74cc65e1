// Measures the time from joining to the first decoded frame of somebody else, on loopback: 50 joins by
// the JavaScript SDK, 20 one after the other and six groups of five at the same moment in one page, then
// 10 joins by pressing "Join" in the meeting page, with a camera of one's own.
// `--json` prints the numbers alone.
import { launchChromium, stats, timedJoin } from './lib/browser.mjs';
import { startServer } from './lib/server.mjs';
import { eventually, percentile, sleep } from './lib/wait.mjs';

const GROUPS = [...Array(20).fill(1), ...Array(6).fill(5)];

const server = await startServer();
const chromium = await launchChromium();
const times = { alone: [], together: [], page: [] };
try {
  const publisher = await chromium.rawPage(server.url, { codec: 'VP8' });
  await publisher.evaluate(async ([url, token]) => {
    window.client = new window.RawClient();
    const stream = await window.fakeMedia({});
    for (const track of stream.getTracks()) {
      window.client.addTrack(track, { source: track.kind === 'video' ? 'camera' : 'microphone', width: 640, height: 360 });
    }
    await window.client.join(url, token);
  }, [server.url, await server.token('clock', 'publisher')]);
  await eventually('the publisher to send', async () =>
    (await stats(publisher)).outbound.some((s) => s.kind === 'video' && s.frames > 30));

  const viewer = await chromium.sdkPage(server.url);
  let number = 0;
  for (const size of GROUPS) {
    const tokens = [];
    for (let i = 0; i < size; i += 1) tokens.push(await server.token('clock', `viewer-${(number += 1)}`));
    const measured = await viewer.evaluate(([url, jwts]) => Promise.all(jwts.map(async (jwt) => {
      const started = performance.now();
      const room = new window.Plenum.Room();
      const firstFrame = new Promise((resolve) => {
        room.on('trackSubscribed', async (track) => {
          if (track.kind !== 'video') return;
          const reader = new MediaStreamTrackProcessor({ track: track.mediaStreamTrack }).readable.getReader();
          const { value: frame } = await reader.read();
          frame?.close();
          resolve(performance.now() - started);
        });
      });
      await room.connect(url, jwt);
      const limit = new Promise((_, reject) => setTimeout(() => reject(new Error('no frame within 10 s')), 10_000));
      const time = await Promise.race([firstFrame, limit]);
      room.disconnect();
      return time;
    })), [server.url, tokens]);
    times[size === 1 ? 'alone' : 'together'].push(...measured);
    await sleep(200);
  }

  for (let i = 0; i < 10; i += 1) {
    const page = await chromium.page({ timeFirstFrame: true });
    times.page.push(await timedJoin(page, await server.link('clock', `person-${i}`)));
    await page.close();
  }
  server.assertHealthy();
} finally {
  await chromium.close();
  await server.stop();
}

const line = (values) => ({
  joins: values.length,
  p50: Math.round(percentile(values, 0.5)),
  p95: Math.round(percentile(values, 0.95)),
  max: Math.round(Math.max(...values)),
});
const result = {
  all: line([...times.alone, ...times.together]),
  alone: line(times.alone),
  together: line(times.together),
  page: line(times.page),
};
if (process.argv.includes('--json')) console.log(JSON.stringify(result));
else {
  console.log('join to first decoded frame, Chromium on loopback, VP8 640x360 at 15 frames/s, milliseconds');
  for (const [name, { joins, p50, p95, max }] of Object.entries(result)) {
    console.log(`${name.padEnd(9)} ${joins} joins  p50 ${p50}  p95 ${p95}  max ${max}`);
  }
}
