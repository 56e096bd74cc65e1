// A room that is broadcast: the publisher with the burned-in clock, and the room API.
import fs from 'node:fs';
import path from 'node:path';
import { eventually, sleep } from '../lib/wait.mjs';
import { BAR_CODE } from './player.mjs';

const SOURCE = fs.readFileSync(path.join(import.meta.dirname, 'source-page.js'), 'utf8');
/** What the publisher's pictures may take. */
const BITRATE = 2_500_000;

/** Begins a broadcast and, unless nobody publishes yet, waits until it can be watched. */
export async function startBroadcast(server, room, wanted = {}, { isEmpty = false } = {}) {
  const token = await server.token(room, 'studio', '--admin');
  const call = async (method, path_, body) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const response = await fetch(`${server.url}/v1/rooms/${room}/broadcasts${path_}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path_}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  };
  const { id, hls } = await call('POST', '', wanted);
  const view = () => call('GET', `/${id}`);
  if (!isEmpty) {
    await eventually('the broadcast to show a picture', async () => {
      const seen = await view();
      return { ok: seen.state === 'live' && seen.onAir.video === 'picture', ...seen };
    });
  }
  return {
    url: `${server.url}${hls.url}`,
    view,
    addTarget: async (url, key) => (await call('POST', `/${id}/targets`, { url, key })).id,
    removeTarget: (target) => call('DELETE', `/${id}/targets/${target}`),
    end: () => call('DELETE', `/${id}`),
  };
}

/** Publishes 720p30 as H264 and waits until it has its full rate. */
export async function openSource(chromium, server, room) {
  const page = await chromium.rawPage(server.url, { codec: 'H264' });
  await page.addScriptTag({ content: `${BAR_CODE}\n${SOURCE}` });
  const token = await server.token(room, 'camera');
  await page.evaluate(([url, jwt, bitrate]) => window.source.publish(url, jwt, bitrate), [server.url, token, BITRATE]);
  let before = await page.evaluate(() => window.source.look());
  // A sender begins with 300 kbit/s and finds out what the path bears.
  for (let second = 0; second < 20; second += 1) {
    await sleep(1000);
    const after = await page.evaluate(() => window.source.look());
    if (rateOf(before, after).kbps > 2000) break;
    before = after;
  }
  return page;
}

/** Looks twice at a publisher: how it did in between. */
export async function sourceDuring(page, work) {
  const before = await page.evaluate(() => window.source.look());
  const result = await work();
  return { result, source: rateOf(before, await page.evaluate(() => window.source.look())) };
}

function rateOf(before, after) {
  const seconds = (after.at - before.at) / 1000;
  const frames = after.frames - before.frames;
  return {
    kbps: Math.round(((after.bytes - before.bytes) * 8) / seconds / 1000),
    fps: Math.round((frames / seconds) * 10) / 10,
    skipped: after.skipped - before.skipped,
    encodeMs: Math.round(((after.encodeS - before.encodeS) / Math.max(1, frames)) * 10_000) / 10,
    size: `${after.width}x${after.height}`, codec: after.codec, encoder: after.encoder, limited: after.limited,
    keyframes: after.keyframes - before.keyframes,
  };
}
