// A Low-Latency HLS client without a player: asks for each part as soon as it is there, and keeps what came when.
import http from 'node:http';
import { eventually } from '../lib/wait.mjs';
import { framesOf, timescaleOf } from './fragment.mjs';

/** One request over a kept connection; resolves when the whole answer has come, at `at` ms since 1970. */
function get(agent, url) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { agent, timeout: 15_000 }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(pieces), at: now() }));
    });
    request.on('timeout', () => request.destroy(new Error(`no answer: ${url}`)));
    request.on('error', reject);
  });
}

/** Milliseconds since 1970 with their fractions, on the machine's clock. */
export const now = () => performance.timeOrigin + performance.now();

/** The media playlists that a multivariant playlist names: its first variant, and its sound. */
export async function renditions(url) {
  const agent = new http.Agent();
  const { status, body } = await get(agent, url);
  agent.destroy();
  if (status !== 200) throw new Error(`${url}: ${status} ${body}`);
  const text = body.toString();
  const video = /^#EXT-X-STREAM-INF.*\n(.*)$/m.exec(text)?.[1];
  const audio = /^#EXT-X-MEDIA:TYPE=AUDIO.*URI="([^"]*)"/m.exec(text)?.[1];
  return { video: new URL(video, url).href, audio: audio && new URL(audio, url).href, text };
}

/** Segments and parts of a media playlist, a delta update or not. */
export function parsePlaylist(text) {
  const number = (name) => Number(new RegExp(`^#EXT-X-${name}:(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  let msn = number('MEDIA-SEQUENCE') + Number(/SKIPPED-SEGMENTS=(\d+)/.exec(text)?.[1] ?? 0);
  const list = { map: null, parts: [], next: { msn, part: 0 }, isEnded: text.includes('#EXT-X-ENDLIST') };
  let [part, date] = [0, null];
  for (const line of text.split('\n')) {
    const uri = /URI="([^"]*)"/.exec(line)?.[1];
    if (line.startsWith('#EXT-X-MAP:')) list.map = uri;
    else if (line.startsWith('#EXT-X-PROGRAM-DATE-TIME:')) date = Date.parse(line.slice(25));
    else if (line.startsWith('#EXT-X-PART:')) {
      list.parts.push({ msn, part, uri, date, isGap: line.includes('GAP=YES') });
      part += 1;
    } else if (line && !line.startsWith('#')) [msn, part] = [msn + 1, 0];
  }
  list.next = { msn, part };
  return list;
}

/**
 * Follows one media playlist until it is stopped. `parts`: { msn, part, date, at, fetchedAt, bytes }, `at` being
 * when the playlist that named it had come, `fetchedAt` when it had itself. With `isLight`, bytes are not kept.
 */
export class Listener {
  parts = [];
  init = null;
  errors = [];
  requests = 0;
  bytes = 0;
  #url;
  #isLight;
  #isStopped = false;
  #lists = new http.Agent({ keepAlive: true, maxSockets: 1 });
  #media = new http.Agent({ keepAlive: true, maxSockets: 2 });

  constructor(url, { isLight = false } = {}) {
    this.#url = url;
    this.#isLight = isLight;
    // A person's player asks for parts over the connection that playlists come by.
    if (isLight) this.#media = this.#lists;
    this.ended = this.#follow().catch((error) => this.#failed(error));
  }

  async stop() {
    this.#isStopped = true;
    await Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, 1500))]);
    this.#lists.destroy();
    this.#media.destroy();
  }

  #failed(error) {
    if (!this.#isStopped) this.errors.push(error.message);
  }

  async #follow() {
    let seen = null;
    while (!this.#isStopped) {
      const query = seen ? `_HLS_msn=${seen.msn}&_HLS_part=${seen.part}&_HLS_skip=YES` : '';
      const separator = this.#url.includes('?') ? '&' : '?';
      const answer = await this.#get(this.#lists, query ? this.#url + separator + query : this.#url);
      if (!answer) continue;
      const list = parsePlaylist(answer.body.toString());
      if (list.map && !this.init) this.init = this.#get(this.#media, new URL(list.map, this.#url)).then((got) => got?.body);
      const isNew = (part) => !seen || part.msn > seen.msn || (part.msn === seen.msn && part.part >= seen.part);
      // What was there before the first look says nothing about when it came.
      const parts = seen ? list.parts.filter(isNew) : [];
      seen = list.next;
      const fetched = parts.filter((part) => !part.isGap).map((part) => this.#fetch(part, answer.at));
      if (this.#isLight) await Promise.all(fetched);
      else Promise.all(fetched).catch((error) => this.#failed(error));
      if (list.isEnded) return;
    }
  }

  async #fetch(part, at) {
    const record = { ...part, at };
    if (!this.#isLight) this.parts.push(record);
    const got = await this.#get(this.#media, new URL(part.uri, this.#url));
    if (got && !this.#isLight) Object.assign(record, { bytes: got.body, fetchedAt: got.at });
  }

  async #get(agent, url) {
    this.requests += 1;
    try {
      const got = await get(agent, url);
      this.bytes += got.body.length;
      if (got.status === 200) return got;
      throw new Error(`${got.status} ${url}: ${got.body.toString().slice(0, 200)}`);
    } catch (error) {
      this.#failed(error);
      // Nothing is asked for in a tight loop.
      await new Promise((resolve) => setTimeout(resolve, 200));
      return null;
    }
  }

  /**
   * What came from `from` to `to` (ms since 1970) as one stream: bytes that begin with the initialisation segment,
   * ticks a second, and every frame with its place in ticks, its part, and its time by EXT-X-PROGRAM-DATE-TIME (ms).
   */
  async recorded(from, to) {
    const init = await this.init;
    const rate = timescaleOf(init);
    const whole = this.parts.filter((part) => part.bytes);
    // A decoder begins with a segment.
    const begins = whole.findIndex((part) => part.part === 0 && part.at >= from);
    const parts = whole.slice(Math.max(0, begins)).filter((part) => part.at <= to);
    const starts = new Map();
    const frames = [];
    for (const part of parts) {
      const list = framesOf(part.bytes);
      if (part.part === 0) starts.set(part.msn, list[0].at);
      for (const frame of list) frames.push({ ...frame, part, dateMs: part.date + ((frame.at - starts.get(part.msn)) * 1000) / rate });
    }
    return { bytes: Buffer.concat([init, ...parts.map((part) => part.bytes)]), rate, frames, parts };
  }
}

/** Follows picture and sound of a broadcast, as soon as both are to be had. */
export async function listen(url) {
  const { video, audio } = await eventually('a playlist with picture and sound', async () => {
    const found = await renditions(url);
    return { ok: found.video && found.audio, ...found };
  });
  const ears = { video: new Listener(video), audio: new Listener(audio) };
  return { ...ears, stop: () => Promise.all([ears.video.stop(), ears.audio.stop()]) };
}
