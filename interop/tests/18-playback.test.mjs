// Who may watch, what they get, and how the HTTP of it behaves: tokens, signatures, sessions, encryption, caches.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { launchChromium } from '../lib/browser.mjs';
import { playlist, playlists, publisher, startBroadcast, urisIn } from '../lib/broadcast.mjs';
import { startCache } from '../lib/cache.mjs';
import { startPlayerSite } from '../lib/player.mjs';
import { complaintsOfFfmpeg } from '../lib/programs.mjs';
import { claims, sign, startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

let studio;
let audience;
let site;
before(async () => {
  [studio, audience, site] = await Promise.all([launchChromium(), launchChromium(), startPlayerSite()]);
});
after(async () => {
  await Promise.all([studio?.close(), audience?.close()]);
  site?.stop();
});

/** A server with this `[broadcast]`, somebody in the room `hall`, and its broadcast, which is live. */
async function onAir(config, body) {
  const server = await startServer({ config: { rooms: { codecs: ['h264'] }, broadcast: config } });
  const opened = [];
  const keep = (one) => {
    opened.push(one);
    return one;
  };
  try {
    keep(await publisher(studio, server, 'hall', 'ann'));
    const broadcast = await startBroadcast(server, 'hall');
    await broadcast.is('live', { video: 'picture' });
    await body({ server, broadcast, keep });
    server.assertHealthy();
    assert.equal(await server.metric('plenum_bridge_panics_total'), 0);
  } finally {
    for (const one of opened) await one.close();
    await server.stop();
  }
}

/** A GET of exactly this path, with nothing in it put right on the way. */
function get(server, path, headers = {}, method = 'GET') {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const sent = http.request({ hostname, port, path, method, headers, agent: false, timeout: 30_000 }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }));
    });
    sent.on('error', reject);
    sent.end();
  });
}

const pathOf = (url) => url.slice(new URL(url).origin.length);

test('without a right token nobody watches', { timeout: 60_000 }, () =>
  onAir({ playback: 'token' }, async ({ server, broadcast }) => {
    const entry = pathOf(broadcast.url);
    const with_ = (token) => get(server, `${entry}?token=${token}`);
    const good = claims('hall', 'viewer');
    const foreign = sign(claims('other', 'viewer'));
    const refused = [
      ['no token', '', 401],
      ['nonsense', 'nonsense', 401],
      ['an expired one', sign(claims('hall', 'viewer', -120)), 401],
      ['one of another secret', sign(good, { secret: 'x'.repeat(32) }), 401],
      ['one without a signature', sign(good, { header: { alg: 'none', typ: 'JWT' } }), 401],
      ['one with a claim changed', changed(sign(good)), 401],
      ['one of another room', foreign, 403],
      ['one that may not subscribe', sign({ ...good, video: { ...good.video, canSubscribe: false } }), 403],
    ];
    for (const [what, token, status] of refused) {
      const { status: given, headers, body } = await with_(token);
      assert.equal(given, status, `${what}: ${body}`);
      assert.match(headers['content-type'], /application\/problem\+json/, what);
      assert.equal(headers['cache-control'], 'no-store', what);
    }
    assert.equal((await get(server, entry)).status, 401, 'no query at all');
    for (const path of ['/live/hall.flv', '/live/hall/status.json']) {
      for (const token of ['', 'nonsense', foreign]) {
        const { status } = await get(server, `${path}?token=${token}`);
        assert.ok(status === 401 || status === 403, `${path}: ${status}`);
      }
    }
  }));

/** The token with another identity in it, and the signature it had. */
function changed(token) {
  const [header, payload, signature] = token.split('.');
  const body = JSON.parse(Buffer.from(payload, 'base64url').toString());
  return [header, Buffer.from(JSON.stringify({ ...body, sub: 'root' })).toString('base64url'), signature].join('.');
}

test('a token gives a session of its own: every address is signed for it, and good for nothing else', { timeout: 90_000 }, () =>
  onAir({ playback: 'token' }, async ({ server, broadcast, keep }) => {
    const token = await server.token('hall', 'viewer', '--subscribe');
    const entry = `${broadcast.url}?token=${token}`;
    const player = keep(await site.open(audience, entry));
    // Then there are two whole segments.
    await player.plays('with a token', { check: ({ time }) => time > 5 });
    for (const url of await player.urls()) assert.match(url, /[?&]s=[\w-]+&e=\d+&h=[\w-]{22}/);

    const mine = await playlists(entry);
    for (const { text, response, url } of [mine.entry, ...mine.media]) {
      assert.equal(response.headers.get('cache-control'), 'private, no-store', url);
      assert.ok(!text.includes(token) && !text.includes('token'), `a token in ${text}`);
      const uris = urisIn(text);
      assert.ok(uris.length > 1);
      for (const uri of uris) assert.match(uri, /\?s=[\w-]{16}&e=\d{10}&h=[\w-]{22}$/, uri);
    }

    // What is signed for one thing opens nothing else.
    const theirs = await playlists(`${broadcast.url}?token=${await server.token('hall', 'other', '--subscribe')}`);
    const [rung] = mine.rungs;
    const segments = rung.parsed.segments.filter(({ uri }) => uri).map(({ uri }) => new URL(uri, rung.url).href);
    const [one, two] = segments.slice(-2);
    assert.equal((await fetch(one)).status, 200);
    const query = (url) => new URL(url).search;
    const bare = (url) => url.split('?')[0];
    const tampered = one.replace(/h=(.)/, (_, first) => `h=${first === 'A' ? 'B' : 'A'}`);
    const spoiled = {
      'no signature': bare(one),
      'a changed signature': tampered,
      'a signature cut short': one.slice(0, -1),
      'an empty signature': one.replace(/h=.*$/, 'h='),
      'the signature of another segment': bare(one) + query(two),
      'the signature of the playlist': bare(one) + query(rung.url),
      'a playlist by the signature of a segment': bare(rung.url) + query(one),
      'a later expiry': one.replace(/e=(\d+)/, (_, e) => `e=${Number(e) + 3600}`),
      'the session of another': one.replace(/s=[\w-]+/, `s=${new URL(theirs.rungs[0].url).searchParams.get('s')}`),
      'the token in place of a signature': `${bare(one)}?token=${token}`,
    };
    for (const [what, url] of Object.entries(spoiled)) {
      assert.notEqual(url, one);
      const response = await fetch(url);
      assert.equal(response.status, 403, `${what}: ${await response.text()}`);
    }
    const map = rung.text.match(/EXT-X-MAP:URI="([^"]*)"/)[1];
    assert.equal((await fetch(new URL(map, rung.url))).status, 200);
    assert.equal((await fetch(bare(new URL(map, rung.url).href))).status, 403);
    assert.deepEqual(await complaintsOfFfmpeg(entry, 4), []);
  }));

test('one user watches with so many players, and as long as the token lasts', { timeout: 90_000 }, () =>
  onAir({ playback: 'token', sessions_per_user: 2 }, async ({ server, broadcast }) => {
    const of = async (identity) => `${broadcast.url}?token=${await server.token('hall', identity, '--subscribe')}`;
    const [ann, ben] = [await of('ann-at-home'), await of('ben-at-home')];
    const first = await playlists(ann);
    await playlists(ann);
    const third = await fetch(ann);
    assert.equal(third.status, 429);
    assert.equal((await third.json()).code, 'too_many_sessions');
    assert.equal((await fetch(ben)).status, 200, 'others are not in the way');
    // Who stops watching makes room.
    await eventually('a player of before to count no more', async () => {
      const { status } = await fetch(first.rungs[0].url);
      assert.equal(status, 200);
      return (await fetch(ann)).status === 200;
    }, { timeoutMs: 30_000, everyMs: 1000 });

    const brief = await playlists(`${broadcast.url}?token=${sign(claims('hall', 'brief', 6))}`);
    assert.equal((await fetch(brief.rungs[0].url)).status, 200);
    await eventually('the session to end with its token', async () => {
      const response = await fetch(brief.rungs[0].url);
      return response.status === 403 && (await response.json()).code === 'expired';
    }, { timeoutMs: 15_000 });
  }));

test('segments are encrypted with a new key now and then, which takes a signature', { timeout: 90_000 }, () =>
  onAir({ playback: 'token', key_rotation: 2 }, async ({ server, broadcast, keep }) => {
    const entry = `${broadcast.url}?token=${await server.token('hall', 'viewer', '--subscribe')}`;
    const player = keep(await site.open(audience, entry));
    await player.plays('what is encrypted');
    const { keys } = await player.plays('with three keys', { check: (seen) => seen.keys >= 3 });
    assert.ok(keys >= 3);
    await player.goesOn('what is encrypted', 4);
    const keyUrls = new Set((await player.urls()).filter((url) => url.includes('.key')).map((url) => url.split('?')[0]));
    assert.ok(keyUrls.size >= 2, [...keyUrls].join());

    const { rungs: [rung] } = await playlists(entry);
    const [uri] = [...rung.text.matchAll(/#EXT-X-KEY:METHOD=AES-128,URI="([^"]*)"/g)].at(-1).slice(1);
    const key = new URL(uri, rung.url);
    const given = await fetch(key);
    assert.equal((await given.arrayBuffer()).byteLength, 16);
    assert.equal(given.headers.get('cache-control'), 'private, no-store');
    for (const search of ['', key.search.replace(/h=./, 'h=_'), new URL(rung.url).search]) {
      assert.equal((await fetch(`${key.origin}${key.pathname}${search}`)).status, 403, search);
    }
    const segment = rung.parsed.segments.filter((one) => one.uri).at(-1);
    const bytes = Buffer.from(await (await fetch(new URL(segment.uri, rung.url))).arrayBuffer());
    assert.ok(bytes.length % 16 === 0 && !bytes.includes('moof') && !bytes.includes('mdat'), 'nothing is in the clear');
    assert.deepEqual(await complaintsOfFfmpeg(entry, 8), []);
  }));

test('what is served keeps to HTTP: names, directives, gzip, ranges, other origins', { timeout: 90_000 }, () =>
  onAir({}, async ({ server, broadcast }) => {
    const { entry, rungs: [rung], audio: [audio] } = await playlists(broadcast.url);
    const folder = pathOf(rung.url).replace(/[^/]*$/, '');
    const segment = rung.parsed.segments.filter((one) => one.uri).at(-1).uri;

    const tricks = [
      '../index.m3u8', '../../live/hall/index.m3u8', '..%2findex.m3u8', '%2e%2e/index.m3u8', '%252e%252e/index.m3u8',
      '%2e%2e%2f%2e%2e%2fetc/passwd', '....//....//etc/passwd', '..\\..\\etc\\passwd', '/etc/passwd', 'v0.m3u8/', 'v0.m3u8/..',
      'v0.m3u8%00', 'v0.m3u8%00.mp4', 'v%30.m3u8', 'V0.m3u8', 'v00.m3u8', 'v0.m3u8%20', './v0.m3u8', 'v9.m3u8', 'v0-s-1.m4s',
      'v0-s+1.m4s', 'v0-s18446744073709551616.m4s', 'k0.key', '%', '%zz', '', 'x'.repeat(5000), `v0-s${'9'.repeat(3000)}.m4s`,
    ];
    for (const name of tricks) {
      const { status, body } = await get(server, `${folder}${name}`);
      // A dot segment leads up to the entry where a router resolves it, which is no secret; nothing else is there.
      assert.ok(status === 404, `${name.slice(0, 80)}: ${status} ${body.subarray(0, 200)}`);
    }
    for (const room of ['nobody', '..', '%2e%2e', '%252e', 'hall%00', 'x'.repeat(5000)]) {
      assert.equal((await get(server, `/live/${room}/index.m3u8`)).status, 404, room.slice(0, 80));
    }

    const last = rung.parsed.segments.at(-1).mediaSequenceNumber;
    const path = pathOf(rung.url);
    for (const query of [`_HLS_msn=${last + 50}`, '_HLS_msn=-1', '_HLS_msn=x', '_HLS_part=1', '_HLS_msn=1&_HLS_msn=2', '_HLS_skip=no', '_HLS_msn=99999999999999999999']) {
      assert.equal((await get(server, `${path}&${query}`)).status, 400, query);
    }

    // A reload that waits is answered as soon as there is what it waits for, and not before.
    const waits = [];
    let list = await playlist(rung.url);
    for (let i = 0; i < 8; i += 1) {
      const [, msn, part] = list.text.match(/PRELOAD-HINT:TYPE=PART,URI="v0-s(\d+)-p(\d+)/);
      const asked = Date.now();
      const [next, hinted] = await Promise.all([
        playlist(`${rung.url}&_HLS_msn=${msn}&_HLS_part=${part}`), get(server, `${folder}v0-s${msn}-p${part}.m4s`),
      ]);
      waits.push(Date.now() - asked);
      assert.equal(hinted.status, 200, 'the part that was announced');
      const has = next.text.includes(`v0-s${msn}-p${part}.m4s"`) || Number(next.text.match(/PRELOAD-HINT.*-s(\d+)-p/)[1]) > Number(msn);
      assert.ok(has, `part ${part} of ${msn} in ${next.text}`);
      list = next;
    }
    assert.ok(Math.max(...waits) < 3000 && waits.reduce((sum, ms) => sum + ms) > 600, `waited ${waits} ms`);

    const zipped = await get(server, path, { 'accept-encoding': 'gzip' });
    assert.equal(zipped.headers['content-encoding'], 'gzip');
    assert.match(zipped.headers.vary, /accept-encoding/i);
    const plain = await get(server, path);
    assert.equal(plain.headers['content-encoding'], undefined);
    const text = gunzipSync(zipped.body).toString();
    assert.ok(text.startsWith('#EXTM3U') && zipped.body.length < text.length / 2);

    const whole = await get(server, `${folder}${segment}`);
    assert.equal(whole.headers['accept-ranges'], 'bytes');
    assert.match(whole.headers['cache-control'], /max-age=\d{4,}.*immutable/);
    assert.equal(whole.headers['content-type'], 'video/mp4');
    const size = whole.body.length;
    for (const [range, from, to] of [['0-99', 0, 99], ['100-', 100, size - 1], ['-50', size - 50, size - 1], [`10-${size * 2}`, 10, size - 1]]) {
      const part = await get(server, `${folder}${segment}`, { range: `bytes=${range}` });
      assert.equal(part.status, 206, range);
      assert.equal(part.headers['content-range'], `bytes ${from}-${to}/${size}`);
      assert.ok(part.body.equals(whole.body.subarray(from, to + 1)), range);
    }
    const beyond = await get(server, `${folder}${segment}`, { range: `bytes=${size}-` });
    assert.deepEqual([beyond.status, beyond.headers['content-range']], [416, `bytes */${size}`]);
    const head = await get(server, `${folder}${segment}`, {}, 'HEAD');
    assert.deepEqual([head.status, Number(head.headers['content-length']), head.body.length], [200, size, 0]);

    const asked = { origin: 'https://app.example', 'access-control-request-method': 'GET', 'access-control-request-headers': 'range' };
    for (const url of [entry.url, rung.url, audio.url]) {
      const preflight = await get(server, pathOf(url), asked, 'OPTIONS');
      assert.ok([200, 204].includes(preflight.status), `${preflight.status}`);
      assert.equal(preflight.headers['access-control-allow-origin'], '*');
      assert.match(preflight.headers['access-control-allow-methods'], /GET/);
      assert.match(preflight.headers['access-control-allow-headers'], /range|\*/i);
    }
    assert.equal(whole.headers['access-control-allow-origin'], '*');
    const posted = await get(server, path, {}, 'POST');
    assert.equal(posted.status, 405);
    assert.match(posted.headers.allow, /GET/);
  }));

test('nginx in front keeps what does not change, and players play through it', { timeout: 90_000 }, () =>
  onAir({}, async ({ server, broadcast, keep }) => {
    const cache = keep(await startCache(server.url));
    const url = broadcast.url.replace(server.url, cache.url);
    // Two browsers, for each has a cache of its own.
    const players = [keep(await site.open(audience, url)), keep(await site.open(studio, url))];
    for (const player of players) await player.plays('through nginx');
    // nginx looks every 500 ms whether what it has asked for already has come, which makes a player that is 600 ms
    // from the end stall now and then.
    const { both } = await eventually('both to load the same', async () => {
      const loads = await Promise.all(players.map(async (player) => new Set((await player.urls()).filter((one) => one.endsWith('.m4s')))));
      const common = [...loads[0]].filter((one) => loads[1].has(one));
      return { ok: common.length > 40, parts: common.length, both: common };
    });
    for (const player of players) await player.plays('through nginx, later');
    // Both may be waiting for a part when it comes; the server is asked once all the same. nginx writes its log
    // after the answer.
    const { misses } = await eventually('each to be answered from the cache once', () => {
      const counted = cache.counts((path) => path.endsWith('.m4s') && both.some((one) => one.endsWith(path)));
      return { ok: counted.hits >= both.length, ...counted, parts: both.length };
    }, { timeoutMs: 5000 });
    assert.equal(misses, both.length, `${misses} times fetched, ${both.length} parts`);
    const again = await fetch(both.at(-1));
    assert.equal(again.headers.get('x-cache-status'), 'HIT');
    assert.ok(!/private|no-store/.test(again.headers.get('cache-control')));
  }));
