// Clients that are no browsers, by WHIP and WHEP: ffmpeg (AES-CM only, both DTLS roles), aiortc (REMB
// only), libwebrtc in Node (three rids).
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium, stats } from '../lib/browser.mjs';
import { publishByFfmpeg, publishByWrtc, receiveByAiortc } from '../lib/programs.mjs';
import { startServer } from '../lib/server.mjs';
import { eventually, sleep } from '../lib/wait.mjs';

// Consent must be renewed in this time (RFC 7675: 30 s), twice over.
const FFMPEG_S = 66;

let server;
let chromium;
before(async () => {
  server = await startServer();
  chromium = await launchChromium();
});
after(async () => {
  await chromium?.close();
  await server?.stop();
});

const whip = (room) => `${server.url}/whip/${room}`;
const whep = (room) => `${server.url}/whep/${room}`;
const decoded = (seen, kind) => seen.inbound.find((s) => s.kind === kind);

test('ffmpeg publishes for over a minute in either DTLS role; Chromium and aiortc watch', { timeout: 130_000 }, async () => {
  const roles = [['passive', []], ['active', ['-whip_flags', 'dtls_active']]];
  const feeds = [];
  try {
    for (const [role, flags] of roles) {
      const room = `ffmpeg-${role}`;
      const program = publishByFfmpeg(whip(room), await server.token(room, 'encoder', '--publish', 'camera,microphone'), { seconds: FFMPEG_S, flags });
      let ended = null;
      program.ended.then((result) => (ended = result));
      feeds.push({ role, room, program, ended: () => ended, frames: 0, energy: 0 });
    }
    for (const feed of feeds) {
      feed.page = await chromium.rawPage(server.url);
      const token = await server.token(feed.room, 'viewer', '--subscribe');
      await feed.page.evaluate(([url, jwt]) => window.whep(url, jwt), [whep(feed.room), token]);
      await eventually(`${feed.role}: the first frames`, async () => {
        if (feed.ended()) throw new Error(`ffmpeg ended: ${feed.ended().stderr.slice(-1500)}`);
        return decoded(await stats(feed.page), 'video')?.frames > 5;
      });
    }
    const aiortc = receiveByAiortc(whep('ffmpeg-passive'), await server.token('ffmpeg-passive', 'remb', '--subscribe'), { codec: 'H264', seconds: 12 });

    const started = Date.now();
    for (let sample = 0; feeds.some((feed) => !feed.ended()); sample += 1) {
      assert.ok(Date.now() - started < 90_000, 'ffmpeg ends by itself');
      await sleep(3000);
      for (const feed of feeds.filter((f) => !f.ended())) {
        const seen = await stats(feed.page);
        const { frames } = decoded(seen, 'video');
        const { energy } = decoded(seen, 'audio');
        if (feed.ended()) continue;
        assert.ok(frames > feed.frames && energy > feed.energy, `${feed.role}: picture and sound go on (sample ${sample}: ${frames}, ${energy})`);
        Object.assign(feed, { frames, energy });
      }
    }
    for (const feed of feeds) {
      const { code, stderr } = feed.ended();
      assert.equal(code, 0, `${feed.role}: ${stderr.slice(-1500)}`);
      assert.ok(feed.frames > 15 * FFMPEG_S * 0.8, `${feed.role}: ${feed.frames} frames decoded`);
    }
    const { stdout, stderr } = await aiortc.ended;
    const report = JSON.parse(stdout || JSON.stringify({ stderr }));
    assert.ok(report.video > 60 && report.last_second > 5 && report.audio > 200, JSON.stringify(report));
    assert.deepEqual([report.width, report.height, report.deleted], [320, 180, 200]);
    server.assertHealthy();
  } finally {
    for (const { program, page } of feeds) {
      await program.stop();
      await page?.close();
    }
  }
});

test('aiortc, which gives REMB only, watches VP8 from Chromium', { timeout: 60_000 }, async () => {
  const page = await chromium.rawPage(server.url, { codec: 'VP8' });
  try {
    const token = await server.token('remb', 'camera');
    await page.evaluate(([url, jwt]) => window.whip(url, jwt, {}), [whip('remb'), token]);
    const aiortc = receiveByAiortc(`${whep('remb')}/camera`, await server.token('remb', 'viewer', '--subscribe'), { codec: 'VP8', seconds: 10 });
    const { stdout, stderr } = await aiortc.ended;
    const report = JSON.parse(stdout || JSON.stringify({ stderr }));
    assert.ok(report.video > 60 && report.last_second > 5 && report.audio > 200, JSON.stringify(report));
    assert.equal(report.deleted, 200);
    server.assertHealthy();
  } finally {
    await page.close();
  }
});

test('libwebrtc publishes three rids by WHIP; a viewer switches among them', { timeout: 90_000 }, async () => {
  const publisher = publishByWrtc(whip('rids'), await server.token('rids', 'node'));
  const page = await chromium.rawPage(server.url);
  try {
    await page.evaluate(async ([url, token]) => {
      window.client = new window.RawClient();
      await window.client.join(url, token);
    }, [server.url, await server.token('rids', 'viewer')]);
    const track = await eventually('three live layers', async () => {
      const seen = await page.evaluate(() => {
        const { client } = window;
        const known = [...client.tracks.values()].find((t) => t.kind === 'video');
        const patches = client.events.filter((e) => e.t === 'track' && e.track === known?.id && e.patch.layers);
        return { id: known?.id, layers: patches.at(-1)?.patch.layers ?? known?.layers };
      });
      return { ok: seen.layers?.filter((layer) => layer.live).length === 3, ...seen, publisher: publisher.output().slice(-300) };
    }, { timeoutMs: 40_000 });
    for (const [w, h] of [[320, 180], [1280, 720], [640, 360]]) {
      await page.evaluate(([id, width, height]) =>
        window.client.send({ t: 'view', set: { [id]: { w: width, h: height } } }), [track.id, w, h]);
      await eventually(`pictures of ${w}x${h}`, async () => {
        const seen = decoded(await stats(page), 'video');
        return { ok: seen?.width === w && seen?.height === h, ...seen };
      }, { timeoutMs: 20_000 });
    }
    server.assertHealthy();
  } finally {
    await publisher.stop();
    await page.close();
  }
});

test('WHEP waits for its publisher, and every exchange ends with DELETE', { timeout: 60_000 }, async () => {
  const page = await chromium.rawPage(server.url, { codec: 'VP8' });
  try {
    const watcher = await server.token('early', 'viewer', '--subscribe');
    const location = await page.evaluate(([url, jwt]) => window.whep(url, jwt), [whep('early'), watcher]);
    const publisher = await server.token('early', 'camera');
    const published = await page.evaluate(([url, jwt]) => window.whip(url, jwt, {}), [whip('early'), publisher]);
    await eventually('frames of the late publisher', async () => decoded(await stats(page), 'video')?.frames > 10);
    for (const [url, token] of [[published, publisher], [location, watcher]]) {
      const headers = { authorization: `Bearer ${token}` };
      assert.equal((await fetch(url, { method: 'DELETE', headers })).status, 200);
      assert.equal((await fetch(url, { method: 'DELETE', headers })).status, 404);
    }
    const refused = await fetch(whip('early'), { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: 'v=0' });
    assert.equal(refused.status, 401);
    assert.match(refused.headers.get('content-type'), /application\/problem\+json/);
    server.assertHealthy();
  } finally {
    await page.close();
  }
});
