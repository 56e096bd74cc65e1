// Players in Chromium that say how old the pictures are that they show.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { eventually, percentile, sleep } from '../lib/wait.mjs';

const HLS_JS = path.join(path.dirname(createRequire(import.meta.url).resolve('hls.js')), 'hls.min.js');
const script = (name) => fs.readFileSync(path.join(import.meta.dirname, name), 'utf8');
export const BAR_CODE = script('bar-code.js');
const PLAYER = script('player-page.js');
const PAGE = `<!doctype html><title>player</title><video playsinline width="1280" height="720"></video>
<script src="/hls.js"></script><script src="/page.js"></script>`;

/** A site with hls.js on it: broadcasts are played there as on anybody's page. */
export async function startSite() {
  const files = {
    '/': ['text/html', PAGE],
    '/hls.js': ['text/javascript', fs.readFileSync(HLS_JS)],
    '/page.js': ['text/javascript', `${BAR_CODE}\n${PLAYER}
      const { url, config } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
      window.player.play(url, config);`],
  };
  const server = http.createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', ''];
    response.writeHead(files[request.url] ? 200 : 404, { 'content-type': type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}/`;
  return {
    /** Plays `url` by hls.js with `config`, or by the browser's own player (`config` null). */
    async open(chromium, url, config) {
      const page = await chromium.page();
      await page.goto(`${origin}#${encodeURIComponent(JSON.stringify({ url, config }))}`);
      return page;
    },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The server's own page for viewers. */
export async function openViewerPage(chromium, server, room) {
  const page = await chromium.page();
  await page.goto(`${server.url}/watch/${room}`);
  await page.addScriptTag({ content: `${BAR_CODE}\n${PLAYER}` });
  await eventually('a <video> in the viewer page', () => page.evaluate(() => Boolean(document.querySelector('video'))));
  await page.evaluate(() => window.player.look());
  return page;
}

/** Waits for the first picture, lets it settle, and notes for some seconds what is shown. */
export async function watch(page, { settleS, seconds }) {
  await eventually('a first picture in the player', async () => {
    const result = await page.evaluate(() => window.player.result());
    return { ok: result.firstMs !== null, errors: result.errors };
  }, { timeoutMs: 40_000 });
  await sleep(settleS * 1000);
  await page.evaluate(() => void window.player.begin());
  await sleep(seconds * 1000);
  const { ages, ...rest } = await page.evaluate(() => window.player.result());
  if (ages.length < seconds) throw new Error(`the player showed ${ages.length} pictures that could be read: ${JSON.stringify(rest)}`);
  if (rest.stalls > 0) await keepLog(page);
  return {
    p50: percentile(ages, 0.5), p95: percentile(ages, 0.95), max: Math.max(...ages), samples: ages.length,
    first: Math.round(rest.firstMs), stalls: rest.stalls, earlierStalls: rest.stallsInAll - rest.stalls, longest: Math.round(rest.longestMs),
    fps: Math.round((rest.frames / seconds) * 10) / 10, dropped: rest.dropped, unread: rest.unread,
    target: rest.targetS, rate: rest.rate, errors: rest.errors,
  };
}

/** What hls.js did before and after it stalled, for whoever wants to know why. */
async function keepLog(page) {
  const text = await page.evaluate(() => window.player.log());
  const file = path.join(process.env.PLENUM_INTEROP_LOGS ?? os.tmpdir(), `stall-${Date.now()}.log`);
  if (!text) return;
  fs.writeFileSync(file, text);
  console.error(`the player stalled: ${file}`);
}
