// A site with hls.js on it, which is not the server's: broadcasts are played there as on anybody's page.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { eventually, sleep } from './wait.mjs';

const HLS_JS = path.join(path.dirname(createRequire(import.meta.url).resolve('hls.js')), 'hls.min.js');
const PAGE = `<!doctype html><title>player</title><video playsinline></video>
<script src="/hls.js"></script><script src="/page.js"></script>`;

/** Serves the page; `open(chromium, url)` plays a broadcast in one. */
export async function startSite() {
  const files = {
    '/': ['text/html', PAGE],
    '/hls.js': ['text/javascript', fs.readFileSync(HLS_JS)],
    '/page.js': ['text/javascript', fs.readFileSync(path.join(import.meta.dirname, 'hls-page.js'))],
  };
  const server = http.createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', ''];
    response.writeHead(files[request.url] ? 200 : 404, { 'content-type': type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    async open(chromium, url, config = {}) {
      const page = await chromium.page();
      await page.goto(this.url);
      await page.evaluate(([source, options]) => void window.player.play(source, options), [url, config]);
      return new Player(page);
    },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** One page that plays a broadcast. */
export class Player {
  constructor(page) {
    this.page = page;
  }

  look() {
    return this.page.evaluate(() => window.player.look());
  }

  /** Every URL that was loaded so far. */
  urls() {
    return this.page.evaluate(() => window.player.urls());
  }

  choose(level) {
    return this.page.evaluate((number) => void window.player.choose(number), level);
  }

  /**
   * Waits until it plays on: time, frames and picture change from one look to the next, and there is sound. With
   * `still` the picture may stand, with `silent` there must be no sound; `check` is one condition more. It has to
   * be so twice in a row.
   */
  async plays(what, { silent = false, still = false, check = () => true, timeoutMs = 25_000 } = {}) {
    let before;
    let times = 0;
    const last = await eventually(`${what}: to be played`, async () => {
      const seen = await this.look();
      const heard = before && seen.energy - before.energy;
      const moved = before && seen.time - before.time;
      const drawn = before && seen.frames - before.frames;
      const isPlayed = moved > 0.3 && drawn > 0 && (still || seen.picture !== before.picture) && (silent ? heard < 1e-6 : heard > 1e-3);
      times = isPlayed && check(seen) ? times + 1 : 0;
      before = seen;
      return { ok: times >= 2 || seen.fatal.length > 0, ...seen, moved, drawn, heard };
    }, { timeoutMs, everyMs: 700 });
    assert.deepEqual(last.fatal, [], what);
    return last;
  }

  /** Plays for `seconds` without a stall; what was seen meanwhile, and by how much it went on. */
  async goesOn(what, seconds) {
    const from = await this.look();
    const looks = [];
    for (const begun = Date.now(); Date.now() - begun < seconds * 1000;) {
      await sleep(500);
      looks.push(await this.look());
    }
    const to = looks.at(-1);
    assert.deepEqual(to.fatal, [], what);
    assert.equal(to.stalls, from.stalls, `${what}: stalled; ${to.errors.join('; ')}`);
    assert.ok(to.time - from.time > seconds - 1.5, `${what}: ${to.time - from.time} s in ${seconds} s`);
    return { looks, last: to, drawn: to.frames - from.frames, heard: to.energy - from.energy };
  }

  /** Waits until it has come to its end. */
  ends(what) {
    return eventually(`${what}: to end`, async () => {
      const seen = await this.look();
      return { ok: seen.ended, ...seen };
    }, { timeoutMs: 15_000 });
  }

  close() {
    return this.page.close();
  }
}
