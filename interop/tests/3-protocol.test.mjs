// `plenum.v1` spoken by hand in Chromium, where a test must say exactly what is offered and asked:
// simulcast layers, data channels, a silenced publisher.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium, stats } from '../lib/browser.mjs';
import { startServer } from '../lib/server.mjs';
import { eventually, sleep } from '../lib/wait.mjs';

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

/** A page of its own in which `window.client` has joined `room`. */
async function joined(room, identity, { publish, options, ...rest } = {}) {
  const page = await chromium.rawPage(server.url, options);
  const token = await server.token(room, identity);
  await page.evaluate(async ([url, jwt, what, slots]) => {
    window.client = new window.RawClient(slots);
    if (what) {
      const stream = await window.fakeMedia(what);
      const [video] = stream.getVideoTracks();
      const { width, height, sendEncodings } = what;
      window.client.addTrack(video, { source: 'camera', width, height, sendEncodings });
      for (const audio of stream.getAudioTracks()) window.client.addTrack(audio, { source: 'microphone' });
    }
    await window.client.join(url, jwt, { autoSubscribe: slots.autoSubscribe ?? true });
  }, [server.url, token, publish ?? null, rest]);
  return page;
}

const video = (inbound) => inbound.filter((s) => s.kind === 'video' && s.frames > 0);

for (const codec of ['VP8', 'H264']) {
  test(`simulcast layers of ${codec} are switched on request`, { timeout: 110_000 }, async () => {
    const room = `layers-${codec}`;
    const sendEncodings = [
      { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
      { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
      { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_500_000 },
    ];
    const publish = { width: 1280, height: 720, fps: 15, audio: true, sendEncodings };
    const ann = await joined(room, 'ann', { publish, options: { codec } });
    const ben = await joined(room, 'ben');
    try {
      await eventually('all three layers to be sent', async () => {
        const layers = (await stats(ann)).outbound.filter((s) => s.kind === 'video');
        return { ok: layers.length === 3 && layers.every((s) => s.frames > 0 && s.codec === codec), layers };
      }, { timeoutMs: 45_000 });
      const track = await ben.evaluate(() => [...window.client.tracks.values()].find((t) => t.kind === 'video')?.id);
      assert.ok(track, 'the track was announced');
      for (const [w, h] of [[320, 180], [1280, 720], [640, 360], [320, 180]]) {
        await ben.evaluate(([id, width, height]) =>
          window.client.send({ t: 'view', set: { [id]: { w: width, h: height, fps: 0, priority: 0, paused: false } } }), [track, w, h]);
        await eventually(`pictures of ${w}x${h}`, async () => {
          const [seen] = video((await stats(ben)).inbound);
          return { ok: seen?.width === w && seen?.height === h, ...seen };
        }, { timeoutMs: 20_000 });
      }
      const { inbound } = await stats(ben);
      assert.equal(new Set(video(inbound).map((s) => s.ssrc)).size, 1, 'one SSRC through all switches');

      // The layer that is shown stops: another one must take its place at once.
      await ben.evaluate((id) => window.client.send({ t: 'view', set: { [id]: { w: 1280, h: 720 } } }), track);
      await eventually('the top layer', async () => ({ ok: video((await stats(ben)).inbound)[0]?.width === 1280 }));
      await ann.evaluate(async () => {
        const { sender } = window.client.publish[0].transceiver;
        const parameters = sender.getParameters();
        parameters.encodings[2].active = false;
        await sender.setParameters(parameters);
      });
      await eventually('a lower live layer', async () => {
        const [seen] = video((await stats(ben)).inbound);
        return { ok: seen.width === 640 || seen.width === 320, ...seen };
      }, { timeoutMs: 8000 });
      server.assertHealthy();
    } finally {
      await ann.close();
      await ben.close();
    }
  });
}

test('data goes to all or to whom it is addressed, reliable and lossy', { timeout: 60_000 }, async () => {
  const names = ['ann', 'ben', 'cat'];
  const pages = [];
  try {
    for (const name of names) pages.push(await joined('data', name));
    const [ann, ben, cat] = pages;
    for (const page of pages) {
      await eventually('open data channels', () =>
        page.evaluate(() => Object.values(window.client.channels).every((c) => c.readyState === 'open')));
    }
    const long = 'x'.repeat(60_000);
    await ann.evaluate((payload) => {
      window.client.sendData('reliable', { topic: 'all' }, payload);
      window.client.sendData('reliable', { to: ['cat'], topic: 'one' }, 'for cat');
      window.client.sendData('lossy', { topic: 'fast' }, 'quick');
    }, long);
    const got = (page) => page.evaluate(() => window.client.data.map(({ channel, from, topic, payload }) =>
      `${channel} ${from} ${topic} ${payload.length}`));
    await eventually('three messages at cat', async () => {
      const messages = await got(cat);
      return { ok: messages.length === 3, messages };
    });
    assert.deepEqual((await got(cat)).sort(), ['lossy ann fast 5', 'reliable ann all 60000', 'reliable ann one 7']);
    await sleep(300);
    assert.deepEqual((await got(ben)).sort(), ['lossy ann fast 5', 'reliable ann all 60000']);
    assert.deepEqual(await got(ann), [], 'nothing comes back to who sent it');
    server.assertHealthy();
  } finally {
    for (const page of pages) await page.close();
  }
});

test('a later offer adds a screen, a muted track stops, an ICE restart keeps media going', { timeout: 60_000 }, async () => {
  const publish = { width: 640, height: 360, fps: 15, audio: true };
  const ann = await joined('later', 'ann', { publish });
  const ben = await joined('later', 'ben');
  const frames = async () => video((await stats(ben)).inbound).reduce((sum, s) => sum + s.frames, 0);
  const grow = async (what) => {
    const start = await frames();
    await eventually(what, async () => (await frames()) > start + 5);
  };
  try {
    await grow('the camera');
    await ann.evaluate(async () => {
      const canvas = document.createElement('canvas');
      canvas.width = 640;
      canvas.height = 360;
      const context = canvas.getContext('2d');
      let step = 0;
      setInterval(() => {
        context.fillStyle = `hsl(${(step += 7)}, 80%, 50%)`;
        context.fillRect(0, 0, 640, 360);
      }, 66);
      window.client.addTrack(canvas.captureStream(15).getVideoTracks()[0], { source: 'screen_share', width: 640, height: 360 });
      await window.client.renegotiate();
    });
    await eventually('the screen beside the camera', async () => {
      const streams = video((await stats(ben)).inbound);
      return { ok: streams.length === 2, streams };
    });

    await ann.evaluate(async () => {
      window.client.pc.restartIce();
      await window.client.renegotiate();
    });
    await grow('frames after an ICE restart');

    const camera = await ben.evaluate(() => [...window.client.tracks.values()].find((t) => t.source === 'camera').id);
    await ann.evaluate((track) => window.client.request({ t: 'track', track, muted: true }), camera);
    await eventually('the mute to be told', () =>
      ben.evaluate((id) => window.client.events.some((e) => e.t === 'track' && e.track === id && e.patch.muted === true), camera));
    await grow('the screen while the camera is muted');
    server.assertHealthy();
  } finally {
    await ann.close();
    await ben.close();
  }
});

test('one receive slot shows VP8, H264, VP9 and AV1 in turn', { timeout: 110_000 }, async () => {
  const codecs = ['VP8', 'H264', 'VP9', 'AV1'];
  const publishers = [];
  const publish = { width: 320, height: 180, fps: 15, audio: false };
  let ben;
  try {
    for (const codec of codecs) publishers.push(await joined('codecs', codec, { publish, options: { codec } }));
    ben = await joined('codecs', 'ben', { audioSlots: 0, videoSlots: 1, autoSubscribe: false });
    const ids = Object.fromEntries(await ben.evaluate(() =>
      window.client.welcome.participants.map(({ identity, tracks }) => [identity, tracks[0].id])));
    for (const codec of [...codecs, 'VP8']) {
      const set = Object.fromEntries(Object.entries(ids).map(([identity, id]) => [id, identity === codec]));
      await ben.evaluate((wanted) => window.client.request({ t: 'subscribe', set: wanted }), set);
      const before = video((await stats(ben)).inbound)[0]?.frames ?? 0;
      await eventually(`moving pictures in ${codec}`, async () => {
        const [seen] = video((await stats(ben)).inbound);
        return { ok: seen?.codec === codec && seen.frames > before + 10, ...seen };
      }, { timeoutMs: 20_000 });
    }
    const { inbound } = await stats(ben);
    assert.equal(new Set(video(inbound).map((s) => s.ssrc)).size, 1, 'one SSRC through all codecs');
    server.assertHealthy();
  } finally {
    for (const page of [...publishers, ben]) await page?.close();
  }
});

test('bad messages are answered by their error and disturb nobody', { timeout: 60_000 }, async () => {
  const publish = { width: 640, height: 360, fps: 15, audio: false };
  const ann = await joined('rough', 'ann', { publish });
  const ben = await joined('rough', 'ben');
  try {
    const codes = await ben.evaluate(async () => {
      const { client } = window;
      const refused = (promise) => promise.then(() => 'ok', (error) => error.message);
      const sdp = client.pc.localDescription.sdp;
      // 10,000 sections in a frame that is still within the limit of 256 KiB.
      const many = sdp + 'm=audio 0 RTP/AVP 0\r\n'.repeat(10_000);
      return {
        unknown: await refused(client.request({ t: 'fly', id: 900 })),
        mistyped: await refused(client.request({ t: 'subscribe', id: 901, set: 7 })),
        garbage: await refused(client.request({ t: 'offer', id: 902, sdp: 'v=1 nonsense', publish: [] })),
        many: await refused(client.request({ t: 'offer', id: 903, sdp: many, publish: [] })),
      };
    });
    assert.equal(codes.unknown, 'unknown_type');
    assert.equal(codes.mistyped, 'bad_message');
    assert.equal(codes.garbage, 'bad_sdp');
    assert.match(codes.many, /^(bad_sdp|limit_exceeded|too_large)$/);
    const before = video((await stats(ben)).inbound)[0]?.frames ?? 0;
    await eventually('frames after all that', async () => (video((await stats(ben)).inbound)[0]?.frames ?? 0) > before + 5);
    server.assertHealthy();
  } finally {
    await ann.close();
    await ben.close();
  }
});
