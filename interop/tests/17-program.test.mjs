// What a broadcast shows while people come, speak, leave and change what they send: one player sees all of it,
// and never has to begin anew.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium } from '../lib/browser.mjs';
import { leave, mute, playlists, publisher, startBroadcast, unpublish } from '../lib/broadcast.mjs';
import { startPlayerSite } from '../lib/player.mjs';
import { complaintsOfFfmpeg } from '../lib/programs.mjs';
import { startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

let server;
let studio;
let audience;
let site;
before(async () => {
  [server, studio, audience, site] = await Promise.all([
    startServer({ config: { rooms: { codecs: ['h264'] } } }), launchChromium(), launchChromium(), startPlayerSite(),
  ]);
});
after(async () => {
  await Promise.all([studio?.close(), audience?.close()]);
  site?.stop();
  await server?.stop();
});

/** Begins a broadcast of `room`, opens a player as soon as it is live, and closes all that `keep` was given. */
async function program(room, body) {
  const opened = [];
  const keep = (one) => {
    opened.push(one);
    return one;
  };
  try {
    await body(keep);
    server.assertHealthy();
    assert.equal(await server.metric('plenum_bridge_panics_total'), 0);
  } finally {
    for (const one of opened) await one.close();
  }
}

const wide = (width) => ({ check: (seen) => seen.width === width });

test('an empty room is a card and silence; who comes is shown, leaves, and returns', { timeout: 90_000 }, () =>
  program('empty', async (keep) => {
    const broadcast = await startBroadcast(server, 'empty');
    await broadcast.is('live', { video: 'card', reason: 'nobody' });
    const player = keep(await site.open(audience, broadcast.url));
    await player.plays('the card', { still: true, silent: true, ...wide(1280) });
    const ann = await publisher(studio, server, 'empty', 'ann');
    await player.plays('ann', wide(320));
    await leave(ann);
    await broadcast.is('live', { video: 'card', reason: 'nobody' });
    // The card comes in the size of the picture before it.
    const { discontinuities } = await player.plays('the card again', { still: true, silent: true, ...wide(320) });
    assert.ok(discontinuities.length >= 2, `${discontinuities}`);
    keep(await publisher(studio, server, 'empty', 'ann'));
    await player.plays('ann again', wide(320));
    await player.goesOn('ann again', 4);
    await playlists(broadcast.url);
    await broadcast.end();
    await player.ends('the broadcast');
  }));

test('sound without a camera has the card; a muted microphone is silence, and no stall', { timeout: 90_000 }, () =>
  program('voice', async (keep) => {
    const ann = keep(await publisher(studio, server, 'voice', 'ann', { video: false }));
    const broadcast = await startBroadcast(server, 'voice');
    await broadcast.is('live', { video: 'card', reason: 'nobody' });
    const player = keep(await site.open(audience, broadcast.url));
    await player.plays('sound and the card', { still: true, ...wide(1280) });
    await mute(ann, 'microphone', true);
    await player.plays('silence', { still: true, silent: true });
    const { heard } = await player.goesOn('silence', 5);
    assert.ok(heard < 1e-6, `energy ${heard} while muted`);
    await mute(ann, 'microphone', false);
    await player.plays('sound again', { still: true });
    assert.deepEqual(await complaintsOfFfmpeg(broadcast.url, 4), []);
  }));

test('the publisher changes the size of its picture, and shares a screen', { timeout: 90_000 }, () =>
  program('sizes', async (keep) => {
    const ann = keep(await publisher(studio, server, 'sizes', 'ann', { width: 640, height: 360 }));
    const broadcast = await startBroadcast(server, 'sizes');
    await broadcast.is('live', { video: 'picture' });
    const player = keep(await site.open(audience, broadcast.url));
    await player.plays('the camera', wide(640));
    const complaints = complaintsOfFfmpeg(broadcast.url, 14);
    await ann.evaluate(async () => {
      const { sender } = window.sent.camera;
      const parameters = sender.getParameters();
      parameters.encodings[0].scaleResolutionDownBy = 2;
      await sender.setParameters(parameters);
    });
    await player.plays('a smaller camera', wide(320));
    await ann.evaluate(async () => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 480, height: 270 });
      const context = canvas.getContext('2d');
      let turn = 0;
      setInterval(() => {
        turn += 1;
        context.fillStyle = `hsl(${turn * 7} 80% 50%)`;
        context.fillRect(0, 0, 480, 270);
      }, 66);
      const [track] = canvas.captureStream().getTracks();
      window.sent.screen = window.client.addTrack(track, { source: 'screen_share', width: 480, height: 270 });
      window.nameTracks(await window.client.renegotiate());
    });
    await player.plays('the screen', wide(480));
    await unpublish(ann, 'screen');
    const { discontinuities } = await player.plays('the camera again', wide(320));
    assert.ok(discontinuities.length >= 4, `${discontinuities}`);
    assert.deepEqual(await complaints, [], 'ffmpeg follows all changes');
  }));

test('the speaker switches ten times, and the player goes on', { timeout: 120_000 }, () =>
  program('talk', async (keep) => {
    const ann = keep(await publisher(studio, server, 'talk', 'ann', { width: 640, height: 360 }));
    const ben = keep(await publisher(studio, server, 'talk', 'ben'));
    const silence = (page, silent) => page.evaluate((value) => (window.tone.gain.value = value), silent ? 0 : 0.3);
    await silence(ben, true);
    const broadcast = await startBroadcast(server, 'talk', { follow: 'speaker' });
    await broadcast.is('live', { video: 'picture', identity: 'ann' });
    const player = keep(await site.open(audience, broadcast.url));
    await player.plays('ann', wide(640));

    // Who speaks is shown.
    await silence(ann, true);
    await silence(ben, false);
    await broadcast.is('live', { video: 'picture', identity: 'ben' });
    await player.plays('ben', wide(320));

    const before = await player.look();
    const begun = Date.now();
    for (let i = 0; i < 10; i += 1) {
      const [identity, width] = i % 2 ? ['ben', 320] : ['ann', 640];
      await broadcast.follow(identity);
      await eventually(`${identity} in the player`, async () => {
        const seen = await player.look();
        return { ok: seen.width === width || seen.fatal.length > 0, ...seen };
      });
    }
    const last = await player.plays('ben after ten switches', wide(320));
    assert.deepEqual(last.fatal, []);
    const switches = last.discontinuities.length - before.discontinuities.length;
    assert.ok(switches >= 8, `${switches} discontinuities for ten switches`);
    const elapsed = (Date.now() - begun) / 1000;
    assert.ok(last.time - before.time > elapsed - 5, `${last.time - before.time} s played in ${elapsed} s; ${last.errors.join('; ')}`);
    assert.ok(last.behind < 5, `${last.behind} s behind`);
    await playlists(broadcast.url);
  }));
