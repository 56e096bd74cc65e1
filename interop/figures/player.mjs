// Players in Chromium that say how old the pictures are that they show.
import fs from 'node:fs';
import path from 'node:path';
import { keepHlsLog, startSite } from '../lib/site.mjs';
import { eventually, percentile, sleep } from '../lib/wait.mjs';

const script = (name) => fs.readFileSync(path.join(import.meta.dirname, name), 'utf8');
export const BAR_CODE = script('bar-code.js');
const PLAYER = script('player-page.js');

/** A site for players that note how old their pictures are. */
export async function startPlayerSite() {
  const site = await startSite(`${BAR_CODE}\n${PLAYER}
    const { url, config } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    window.player.play(url, config);`);
  return {
    ...site,
    /** Plays `url` by hls.js with `config`, or by the browser's own player (`config` null). */
    async open(chromium, url, config) {
      const page = await chromium.page();
      await page.goto(`${site.url}#${encodeURIComponent(JSON.stringify({ url, config }))}`);
      return page;
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
  if (rest.stalls > 0) console.error(`the player stalled: ${await keepHlsLog(page) ?? 'no log'}`);
  return {
    p50: percentile(ages, 0.5), p95: percentile(ages, 0.95), max: Math.max(...ages), samples: ages.length,
    first: Math.round(rest.firstMs), stalls: rest.stalls, earlierStalls: rest.stallsInAll - rest.stalls, longest: Math.round(rest.longestMs),
    fps: Math.round((rest.frames / seconds) * 10) / 10, dropped: rest.dropped, unread: rest.unread,
    target: rest.targetS, rate: rest.rate, errors: rest.errors,
  };
}
