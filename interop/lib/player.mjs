// hls.js in a page of Chromium, asked what a viewer would notice.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { keepHlsLog, startSite } from './site.mjs';
import { eventually, sleep } from './wait.mjs';

const PLAYER = fs.readFileSync(path.join(import.meta.dirname, 'hls-page.js'), 'utf8');

/** A site for players; `open(chromium, url)` plays a broadcast in one. */
export async function startPlayerSite() {
  const site = await startSite(PLAYER);
  return {
    ...site,
    async open(chromium, url, config = {}) {
      const page = await chromium.page();
      await page.goto(site.url);
      await page.evaluate(([source, options]) => void window.player.play(source, options), [url, config]);
      return new Player(page);
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
    }, { timeoutMs, everyMs: 700 }).catch(async (error) => {
      throw new Error(`${error.message}; see ${await keepHlsLog(this.page)}`, { cause: error });
    });
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
    if (to.stalls !== from.stalls) {
      assert.fail(`${what}: stalled ${to.stalls - from.stalls} times, see ${await keepHlsLog(this.page)}; ${to.errors.join('; ')}`);
    }
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
