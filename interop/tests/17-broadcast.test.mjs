// A room goes out as HLS, and is watched with programs that others wrote: hls.js in another Chromium, ffmpeg,
// ffprobe, a strict parser of playlists, and our own page.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { join, launchChromium, stats } from '../lib/browser.mjs';
import { parse, playlist, playlists, publisher, startBroadcast } from '../lib/broadcast.mjs';
import { startPlayerSite } from '../lib/player.mjs';
import { complaintsOfFfmpeg, probe } from '../lib/programs.mjs';
import { startServer } from '../lib/server.mjs';
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

/** Runs `body` with a server of its own and a function that keeps what is to be closed. */
async function withServer(config, body) {
  const server = await startServer({ config });
  const opened = [];
  const keep = (one) => {
    opened.push(one);
    return one;
  };
  try {
    await body(server, keep);
    server.assertHealthy();
    assert.equal(await server.metric('plenum_bridge_panics_total'), 0);
  } finally {
    for (const one of opened) await one.close();
    await server.stop();
  }
}

/** What a page sends of its camera, by rid. */
async function sentVideo(page) {
  const { outbound } = await stats(page);
  return outbound.filter((s) => s.kind === 'video' && s.frames > 0);
}

test('a room in H264 plays everywhere, and every playlist is right', { timeout: 120_000 }, () =>
  withServer({ rooms: { codecs: ['h264'] }, broadcast: { dvr: '1m' } }, async (server, keep) => {
    const ann = keep(await studio.page());
    await join(ann, await server.link('air', 'ann'));
    const broadcast = await startBroadcast(server, 'air');
    await broadcast.is('live', { video: 'picture', identity: 'ann' });
    // Who comes later is told of all encodings.
    await eventually('three encodings to go out', async () => {
      const sent = await sentVideo(ann);
      const { entry } = await playlists(broadcast.url);
      return { ok: sent.every((s) => s.codec === 'H264') && entry.parsed.variants.length === 3, sent, text: entry.text };
    }, { timeoutMs: 40_000, everyMs: 1000 });

    const player = keep(await site.open(audience, broadcast.url));
    await player.plays('the meeting page');
    const [{ looks, last, drawn, heard }, lists] = await Promise.all([
      player.goesOn('15 s of it', 15), playlists(broadcast.url),
    ]);
    assert.ok(drawn > 100 && heard > 0.01, `${drawn} frames, energy ${heard}`);
    assert.ok(new Set(looks.map((look) => look.picture)).size > looks.length * 0.8, 'the picture moves');
    for (const { behind, latency } of looks) {
      assert.ok(behind > 0 && behind < 4 && latency < 4, `${behind} s behind the room, ${latency} s behind the edge`);
    }
    assert.ok(last.parts > 60, `${last.parts} parts loaded`);

    // The ladder is the publisher's own.
    const variants = lists.entry.parsed.variants.map(({ resolution, bandwidth, codecs, frameRate }) => ({ resolution, bandwidth, codecs, frameRate }));
    assert.deepEqual(variants.map(({ resolution }) => resolution.width), [1280, 640, 320]);
    for (const [i, { bandwidth, codecs, frameRate }] of variants.entries()) {
      assert.match(codecs, /^avc1\.42[0-9a-f]{4},mp4a\.40\.2$/);
      assert.ok(frameRate > 5 && frameRate < 20, `${frameRate} frames a second`);
      assert.ok(i === 0 || bandwidth < variants[i - 1].bandwidth, 'smaller pictures take less');
      const measured = await bitsPerSecond([lists.rungs[i], lists.audio[0]]);
      assert.ok(bandwidth > measured * 0.8 && bandwidth < measured * 2, `BANDWIDTH ${bandwidth}, measured ${measured}`);
    }
    for (const width of [320, 1280, 640]) {
      await player.choose(last.ladder.findIndex((rung) => rung.width === width));
      await player.plays(`the rung ${width} wide`, { check: (seen) => seen.width === width });
    }
    await deltaUpdate(lists.rungs[0]);

    const streams = await probe(broadcast.url);
    assert.deepEqual(new Set(streams.map((s) => s.codec_name)), new Set(['h264', 'aac']), JSON.stringify(streams));
    assert.deepEqual(await complaintsOfFfmpeg(broadcast.url, 8), []);

    await broadcast.end();
    await player.ends('the broadcast');
    const ended = await playlists(broadcast.url);
    for (const { text, url, parsed } of ended.media) {
      assert.ok(text.trimEnd().endsWith('#EXT-X-ENDLIST') && parsed.endlist, `${url}\n${text}`);
    }
    assert.equal((await broadcast.view()).ending, 'stopped');
    assert.equal(JSON.parse((await server.request('/live/air/status.json')).text).state, 'ended');
    assert.deepEqual(ann.errors, []);
  }));

/** Of the densest of the whole segments of some media playlists, all taken together. */
async function bitsPerSecond(lists) {
  const rates = await Promise.all(lists.map(async ({ url, parsed }) => {
    const whole = parsed.segments.filter((segment) => segment.uri && segment.duration > 1);
    const bits = await Promise.all(whole.map(async ({ uri, duration }) => {
      const bytes = await (await fetch(new URL(uri, url))).arrayBuffer();
      return (bytes.byteLength * 8) / duration;
    }));
    return Math.max(...bits);
  }));
  return rates.reduce((sum, rate) => sum + rate, 0);
}

/** What a player that knows the older segments asks for: they are left out, and the rest is the same. */
async function deltaUpdate({ url }) {
  const { text, parsed } = await eventually('a playlist long enough to leave something out', async () => {
    const list = await playlist(`${url}&_HLS_skip=YES`);
    return { ok: list.text.includes('#EXT-X-SKIP'), text: list.text, parsed: list.parsed };
  }, { timeoutMs: 30_000, everyMs: 1000 });
  const whole = await playlist(url);
  const skipped = Number(text.match(/SKIPPED-SEGMENTS=(\d+)/)[1]);
  assert.ok(skipped >= 1 && parsed.skip === skipped, text);
  const kept = parsed.segments.filter(({ uri }) => uri).map(({ uri, mediaSequenceNumber }) => [uri, mediaSequenceNumber]);
  const all = whole.parsed.segments.filter(({ uri }) => uri).map(({ uri, mediaSequenceNumber }) => [uri, mediaSequenceNumber]);
  const common = kept.filter(([uri]) => all.some(([other]) => other === uri));
  assert.ok(common.length >= 3, text);
  for (const [uri] of common) assert.ok(text.includes(uri));
}

test('a room that began in VP8 is asked for H264, and goes out', { timeout: 60_000 }, () =>
  withServer({}, async (server, keep) => {
    const ann = keep(await studio.page());
    await join(ann, await server.link('eight', 'ann'));
    await eventually('VP8 to be sent', async () => {
      const sent = await sentVideo(ann);
      return { ok: sent.length > 0 && sent.every((s) => s.codec === 'VP8'), sent };
    });
    const broadcast = await startBroadcast(server, 'eight');
    const player = keep(await site.open(audience, broadcast.url));
    await broadcast.is('live', { video: 'picture', identity: 'ann' });
    const asked = await ann.evaluate(() => window.plenumTest.sockets.flatMap((s) => s.received).filter((m) => m.t === 'codec'));
    assert.deepEqual(asked.map((message) => message.codec), ['h264'], 'asked once');
    await eventually('H264 alone to be sent', async () => {
      const sent = await sentVideo(ann);
      return { ok: sent.length > 0 && sent.every((s) => s.codec === 'H264'), sent };
    });
    await player.plays('what is sent now');
  }));

test('VP9 goes out where it may', { timeout: 60_000 }, () =>
  withServer({ rooms: { codecs: ['vp9'] }, broadcast: { codecs: ['h264', 'vp9'] } }, async (server, keep) => {
    keep(await publisher(studio, server, 'nine', 'ann', { codec: 'VP9' }));
    const broadcast = await startBroadcast(server, 'nine');
    await broadcast.is('live', { video: 'picture' });
    const { entry, rungs } = await playlists(broadcast.url);
    assert.match(entry.parsed.variants[0].codecs, /^vp09\.00\.\d\d\.08,mp4a\.40\.2$/);
    const player = keep(await site.open(audience, broadcast.url));
    const { ladder } = await player.plays('VP9', { check: (seen) => seen.width === 320 });
    assert.match(ladder[0].codecs, /^vp09/);
    const map = rungs[0].parsed.segments.at(-1).map ?? rungs[0].parsed.segments[0].map;
    const init = Buffer.from(await (await fetch(new URL(map.uri, rungs[0].url))).arrayBuffer());
    assert.ok(init.includes('vp09') && init.includes('vpcC'), 'it is VP9 in fMP4');
  }));

test('nobody watches, nothing is made; the first request wakes it', { timeout: 60_000 }, () =>
  withServer({ rooms: { codecs: ['h264'] }, broadcast: { idle_timeout: '3s' } }, async (server, keep) => {
    keep(await publisher(studio, server, 'idle', 'ann'));
    const broadcast = await startBroadcast(server, 'idle');
    await broadcast.is('live', { video: 'picture' });
    const first = await site.open(audience, broadcast.url);
    await first.plays('before it rests');
    await first.close();
    await broadcast.is('paused');
    const packets = await server.metric('plenum_bridge_packets_total');
    await eventually('a while to pass', async () => (await broadcast.view()).state === 'paused', { everyMs: 1000 });
    assert.ok(await server.metric('plenum_bridge_packets_total') - packets < 10, 'no media are taken from the room');
    const second = keep(await site.open(audience, broadcast.url));
    await second.plays('after it woke', { check: (seen) => seen.behind < 4 });
    assert.equal((await broadcast.view()).state, 'live');
    for (const { text } of (await playlists(broadcast.url)).media) parse(text);
  }));

test('the viewer page plays without a token, tells how late it is and how many watch, and ends', { timeout: 60_000 }, () =>
  withServer({ rooms: { codecs: ['h264'] } }, async (server, keep) => {
    const viewers = [];
    for (let i = 0; i < 2; i += 1) {
      const page = keep(await audience.page());
      await page.goto(`${server.url}/watch/show`);
      viewers.push(page);
    }
    keep(await publisher(studio, server, 'show', 'ann'));
    const broadcast = await startBroadcast(server, 'show');
    for (const page of viewers) {
      await eventually('a moving picture', async () => {
        const [one] = await page.evaluate(() => window.plenumTest.pictures());
        const [, other] = [await page.waitForTimeout(400), ...(await page.evaluate(() => window.plenumTest.pictures()))];
        return { ok: one !== undefined && other !== undefined && one !== other, one, other };
      });
      const latency = page.getByText(/\d+\.\d s behind/).first();
      await latency.waitFor();
      const seconds = Number((await latency.innerText()).match(/([\d.]+) s behind/)[1]);
      assert.ok(seconds > 0 && seconds < 5, `${seconds} s behind`);
    }
    await viewers[0].getByText('2 viewers').first().waitFor();
    await broadcast.end();
    for (const page of viewers) {
      await eventually('the page to tell of the end', async () => {
        const said = await page.getByRole('status').allInnerTexts();
        const video = await page.evaluate(() => {
          const { currentTime, ended, readyState, buffered } = document.querySelector('video');
          const ranges = Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);
          return { currentTime, ended, readyState, ranges };
        });
        return { ok: said.some((text) => /ended|over/i.test(text)), said, video };
      });
      assert.deepEqual(page.errors, []);
    }
  }));
