// Encoders that publish into a room by RTMP, as Chromium in the room sees and hears them: ffmpeg with H264
// and AAC of 44.1 kHz mono, those that may not, those that come back, and what is no encoder at all.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { framesDecoded, join, launchChromium, seesAndHears, stats } from '../lib/browser.mjs';
import { encode, TONE_HZ } from '../lib/encoders.mjs';
import { ffmpeg } from '../lib/programs.mjs';
import { claims, freePort, sign, startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

let chromium;
before(async () => {
  chromium = await launchChromium();
});
after(() => chromium?.close());

/** Runs `body` with a server of its own that encoders can publish to; ends what it started. */
async function withServer(settings, body) {
  const port = await freePort();
  const server = await startServer({ config: { broadcast: { rtmp_addr: `127.0.0.1:${port}`, ...settings } } });
  const running = [];
  const own = (program) => {
    running.push(program);
    return program;
  };
  const address = async (room, token) => `rtmp://127.0.0.1:${port}/live/${room}${token ? `?token=${await token}` : ''}`;
  try {
    await body({
      server,
      port,
      /** The address to publish to, with an encoder's token unless another is given, or none. */
      address: (room, token = server.token(room, 'encoder', '--publish', 'camera,microphone')) => address(room, token),
      /** Starts an encoder at an address. */
      encode: (url, options) => own(encode(url, options)),
      /** A page that watches all there is in a room. */
      async watch(room) {
        const page = await chromium.rawPage(server.url);
        own({ stop: () => page.close() });
        await page.evaluate(([url, jwt]) => window.whep(url, jwt), [
          `${server.url}/whep/${room}`, await server.token(room, 'viewer', '--subscribe'),
        ]);
        return page;
      },
      async participant(room, identity = 'encoder') {
        const { status, body: found } = await server.api(room, 'GET', `/participants/${identity}`);
        return status === 200 ? found : null;
      },
      /** Anything that has `stop`, to be stopped at the end. */
      own,
    });
    server.assertHealthy();
  } finally {
    for (const program of running.reverse()) await program.stop();
    await server.stop();
  }
}

const energy = async (page) =>
  (await stats(page)).inbound.filter((s) => s.kind === 'audio').reduce((sum, s) => sum + s.energy, 0);

/** Waits until more pictures come than have come. */
async function seesMore(page, what, { more = 10, timeoutMs } = {}) {
  const before = await framesDecoded(page);
  await eventually(what, async () => {
    const frames = await framesDecoded(page);
    return { ok: frames >= before + more, before, frames };
  }, { timeoutMs });
}

/** What an encoder printed that was refused. */
async function refusal(encoder) {
  const { code, stderr } = await encoder.ended;
  assert.notEqual(code, 0, stderr.slice(-1500));
  return stderr.match(/Server error: (.*)/)?.[1] ?? `nothing: ${stderr.slice(-1500)}`;
}

test('the meeting page sees and hears an encoder', { timeout: 60_000 }, () =>
  withServer({}, async ({ server, address, encode, participant }) => {
    encode(await address('stage'));
    const page = await chromium.page();
    try {
      await join(page, await server.link('stage', 'ann'));
      await seesAndHears(page, 1, { codec: 'H264' });
      await eventually('the tone', async () => {
        const pitch = await page.evaluate(() => window.plenumTest.pitch());
        return { ok: Math.abs(pitch - TONE_HZ) < 20, pitch };
      });
      const { inbound } = await stats(page);
      const picture = inbound.find((s) => s.kind === 'video' && s.frames > 0);
      assert.deepEqual([picture.width, picture.height], [320, 180]);
      const { tracks } = await participant('stage');
      assert.deepEqual(tracks.map(({ kind, source, codec }) => [kind, source, codec]).sort(), [
        ['audio', 'microphone', 'opus'], ['video', 'camera', 'h264'],
      ]);
      assert.deepEqual(page.errors, []);
    } finally {
      await page.close();
    }
  }));

test('sound alone, pictures alone, sound that comes later', { timeout: 60_000 }, () =>
  withServer({}, async ({ address, encode, watch, participant }) => {
    const [sound, silent, late] = await Promise.all(['sound', 'silent', 'late'].map(watch));
    encode(await address('sound'), { picture: false });
    encode(await address('silent'), { tone: false });
    encode(await address('late'), { toneAfter: 3 });

    await eventually('sound alone', async () => (await energy(sound)) > 0.01);
    assert.equal(await framesDecoded(sound), 0);
    assert.deepEqual((await participant('sound')).tracks.map(({ kind }) => kind), ['audio']);

    await seesMore(silent, 'pictures alone');
    assert.equal(await energy(silent), 0);
    assert.deepEqual((await participant('silent')).tracks.map(({ kind }) => kind), ['video']);

    const pictures = await eventually('late sound', async () => {
      const frames = await framesDecoded(late);
      return (await energy(late)) > 0.01 && frames;
    });
    assert.ok(pictures > 25, `${pictures} pictures came before the sound`);
    await seesMore(late, 'pictures beside late sound');
  }));

test('who may not publish is told so, and nothing of it is taken', { timeout: 60_000 }, () =>
  withServer({}, async ({ server, address, encode, participant }) => {
    const expired = { ...claims('closed', 'encoder'), exp: Math.floor(Date.now() / 1000) - 120 };
    const publish = { ...claims('closed', 'encoder').video, canPublish: false };
    const cases = [
      ['no token', null, /valid token/],
      ['nonsense', 'nonsense', /valid token/],
      ['the token of another server', sign(claims('closed', 'encoder'), { secret: 'x'.repeat(64) }), /valid token/],
      ['an expired token', sign(expired), /the token is over/],
      ['the token of another room', await server.token('open', 'encoder'), /not allow publishing in this room/],
      ['a token without that grant', sign({ ...claims('closed', 'encoder'), video: publish }), /not allow publishing/],
    ];
    await Promise.all(cases.map(async ([what, token, words]) =>
      assert.match(await refusal(encode(await address('closed', token), { seconds: 10 })), words, what)));
    assert.equal(await server.metric('plenum_rtmp_admitted_total'), 0);
    assert.equal(await server.metric('plenum_rtmp_frames_total'), 0);
    assert.ok(await server.metric('plenum_rtmp_received_bytes_total') < cases.length * 8192, 'they were stopped before media');
    assert.equal(await server.metric('plenum_rtmp_ended_total', 'reason="refused"'), cases.length);
    assert.equal(await participant('closed'), null);

    // Who goes on guessing is not listened to any more.
    for (const n of [1, 2, 3, 4, 5, 6]) {
      const { code } = await encode(await address('closed', `guess-${n}`), { seconds: 10 }).ended;
      assert.notEqual(code, 0);
    }
    assert.ok(await server.metric('plenum_rtmp_refused_total', 'reason="failures"') >= 1);
  }));

test('a token for sound alone lets no pictures in', { timeout: 60_000 }, () =>
  withServer({}, async ({ server, address, encode, watch, participant }) => {
    const page = await watch('radio');
    const encoder = encode(await address('radio', server.token('radio', 'encoder', '--publish', 'microphone')));
    await eventually('the sound, or a refusal', async () => encoder.hasEnded() || (await energy(page)) > 0.01);
    const kinds = ((await participant('radio'))?.tracks ?? []).map(({ kind }) => kind);
    assert.deepEqual(kinds.filter((kind) => kind === 'video'), [], encoder.output().slice(-300));
    assert.equal(await framesDecoded(page), 0);
  }));

test('a second encoder with one token is refused, the first goes on', { timeout: 60_000 }, () =>
  withServer({}, async ({ address, encode, watch, participant }) => {
    const page = await watch('stage');
    const url = await address('stage');
    encode(url);
    await seesMore(page, 'the first');
    const { id } = await participant('stage');
    assert.match(await refusal(encode(url, { seconds: 10 })), /publishes .* already/);
    await seesMore(page, 'the first to go on');
    assert.equal((await participant('stage')).id, id);
  }));

test('removing an encoder ends its connection', { timeout: 60_000 }, () =>
  withServer({}, async ({ server, address, encode, watch, participant }) => {
    const page = await watch('stage');
    const encoder = encode(await address('stage'));
    await seesMore(page, 'the encoder');
    const { status } = await server.api('stage', 'DELETE', '/participants/encoder');
    assert.equal(status, 204);
    assert.match(await refusal(encoder), /removed from the room/);
    assert.equal(await participant('stage'), null);
    await eventually('no connection', async () => (await server.metric('plenum_rtmp_connections')) === 0);
  }));

test('B-frames, HEVC and AV1 are refused with words that help', { timeout: 60_000 }, () =>
  withServer({}, async ({ server, address, encode }) => {
    const encoderOf = async (name, options) => {
      const token = server.token('stage', name, '--publish', 'camera,microphone');
      return refusal(encode(await address('stage', token), { seconds: 20, ...options }));
    };
    const [bFrames, hevc, av1] = await Promise.all([
      encoderOf('b', { picture: ['-c:v', 'libx264', '-preset', 'ultrafast', '-bf', '2', '-g', '15'] }),
      encoderOf('h', { program: ffmpeg(), picture: ['-c:v', 'libx265', '-preset', 'ultrafast', '-bf', '0', '-x265-params', 'log-level=none'] }),
      encoderOf('a', { program: ffmpeg(), picture: ['-c:v', 'libaom-av1', '-usage', 'realtime', '-cpu-used', '10'] }),
    ]);
    assert.match(bFrames, /B-frames.*-bf 0/);
    assert.match(hevc, /HEVC|H\.?265/i);
    assert.match(av1, /AV1/i);
  }));

test('RTMPS takes encoders in, and closes what does not speak TLS', { timeout: 60_000 }, async () => {
  const port = await freePort();
  const server = await startServer({ tls: ['127.0.0.1'], config: { broadcast: { rtmps_addr: `127.0.0.1:${port}` } } });
  const token = await server.token('stage', 'encoder', '--publish', 'camera,microphone');
  const encoder = encode(`rtmps://127.0.0.1:${port}/live/stage?token=${token}`);
  try {
    await eventually('the encoder to publish', async () => {
      const { body } = await server.api('stage', 'GET', '/participants/encoder');
      const frames = await server.metric('plenum_rtmp_frames_total', 'kind="video"');
      return { ok: body.tracks?.length === 2 && frames > 15, frames, output: encoder.output().slice(-500) };
    });
    const { code } = await encode(`rtmp://127.0.0.1:${port}/live/stage?token=${token}`, { seconds: 10 }).ended;
    assert.notEqual(code, 0);
    assert.equal(await server.metric('plenum_rtmp_ended_total', 'reason="tls"'), 1);
    assert.equal(await server.metric('plenum_rtmp_connections'), 1);
    server.assertHealthy();
  } finally {
    await encoder.stop();
    await server.stop();
  }
});

test('what is muted through the API is seen and heard by nobody', { timeout: 60_000 }, () =>
  withServer({}, async ({ server, address, encode, watch, participant }) => {
    const page = await watch('stage');
    encode(await address('stage'));
    await server.api('stage', 'POST', '/broadcasts', {});
    await seesMore(page, 'the encoder');
    const onAir = async () => (await server.api('stage', 'GET', '/broadcasts')).body.items[0].onAir;
    await eventually('it to be broadcast', async () => {
      const seen = await onAir();
      return { ok: seen.video === 'picture' && seen.identity === 'encoder', seen };
    });
    const { tracks } = await participant('stage');
    const mute = async (muted) => {
      for (const { id } of tracks) {
        const { status } = await server.api('stage', 'PATCH', `/participants/encoder/tracks/${id}`, { muted });
        assert.equal(status, 204);
      }
    };
    const received = async () => (await stats(page)).inbound.map((s) => s.packets);

    await mute(true);
    let last = await received();
    await eventually('no more packets', async () => {
      const before = last;
      last = await received();
      return { ok: before.join() === last.join(), before, last };
    }, { everyMs: 1500 });
    await eventually('the broadcast to be without it', async () => {
      const seen = await onAir();
      return { ok: seen.video === 'card', seen };
    });

    await mute(false);
    await seesMore(page, 'the encoder again');
    await eventually('it to be broadcast again', async () => (await onAir()).video === 'picture');
  }));

// These wait most of the time.
describe('with patience', { concurrency: true }, () => {
  test('an encoder that dies and comes back keeps its place; one that stays away loses it', { timeout: 90_000 }, () =>
    withServer({ publish_grace: '6s' }, async ({ server, address, encode, watch, participant }) => {
      const page = await watch('stage');
      const url = await address('stage');
      const first = encode(url);
      await seesMore(page, 'the encoder');
      const seat = await participant('stage');
      await first.kill();
      await eventually('the connection to be gone', async () => (await server.metric('plenum_rtmp_connections')) === 0);
      const second = encode(url);
      await seesMore(page, 'the encoder after it died', { more: 20 });
      const place = ({ id, tracks }) => [id, ...tracks.map((track) => track.id)];
      assert.deepEqual(place(await participant('stage')), place(seat));
      const heard = await energy(page);
      await eventually('its sound', async () => (await energy(page)) > heard);

      const killedAt = Date.now();
      await second.kill();
      assert.deepEqual(place(await participant('stage')), place(seat));
      await eventually('the encoder to leave', async () => (await participant('stage')) === null);
      assert.ok(Date.now() - killedAt >= 6000, `after ${Date.now() - killedAt} ms`);

      encode(url);
      await seesMore(page, 'the encoder to join anew');
      assert.notEqual((await participant('stage')).id, seat.id);
    }));

  test('an encoder that says it is done leaves at once', { timeout: 60_000 }, () =>
    withServer({ publish_grace: '1h' }, async ({ address, encode, participant }) => {
      const encoder = encode(await address('stage'));
      await eventually('the encoder to publish', async () => (await participant('stage'))?.tracks.length === 2);
      await encoder.stop();
      await eventually('the encoder to leave', async () => (await participant('stage')) === null);
    }));

  // 2^24 ms and, where ffmpeg's own clock begins anew, 2^31 ms are five seconds away.
  for (const [what, clock, jumps] of [['24 bits', 16_772.2, false], ['31 bits', 2_147_478.6, true]]) {
    test(`an encoder runs on when its clock outgrows ${what}`, { timeout: 60_000 }, () =>
      withServer({}, async ({ server, address, encode, watch }) => {
        const page = await watch('stage');
        encode(await address('stage'), { clock });
        await seesMore(page, 'its first pictures');
        await seesMore(page, 'what comes after', { more: 7 * 15 });
        const heard = await energy(page);
        await eventually('its sound', async () => (await energy(page)) > heard);
        assert.equal(await server.metric('plenum_rtmp_time_jumps_total') > 0, jumps);
      }));
  }

  test('garbage and silence on the port are closed and counted; nobody else notices', { timeout: 60_000 }, () =>
    withServer({}, async ({ server, port, address, encode, watch, own }) => {
      const page = await watch('stage');
      encode(await address('stage'));
      await seesMore(page, 'the encoder');

      const closed = [null, Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'), randomBytes(1 << 20), Buffer.concat([Buffer.from([3]), randomBytes(1 << 16)])]
        .map(async (bytes) => {
          const socket = net.connect(port, '127.0.0.1').on('error', () => {});
          own({ stop: () => socket.destroy() });
          if (bytes) socket.write(bytes);
          socket.resume();
          await once(socket, 'close');
        });
      await eventually('all of them to be there', async () => (await server.metric('plenum_rtmp_connections')) > 1);
      await Promise.all(closed);
      await eventually('one connection to be left', async () => (await server.metric('plenum_rtmp_connections')) === 1);
      assert.equal(await server.metric('plenum_rtmp_ended_total', 'reason="failed"'), closed.length);
      assert.equal(await server.metric('plenum_rtmp_panics_total'), 0);
      await seesMore(page, 'the encoder to go on');
    }));

  test('who joins late sees an encoder from its next keyframe on, however rare they are', { timeout: 60_000 }, () =>
    withServer({}, async ({ server, address, encode, watch, participant }) => {
      const every = (pictures) => ['-c:v', 'libx264', '-profile:v', 'baseline', '-preset', 'ultrafast', '-bf', '0', '-g', String(pictures)];
      for (const [room, pictures] of [['often', 30], ['seldom', 250]]) {
        encode(await address(room), { picture: every(pictures), fps: 30 });
        await eventually(`${room} to publish`, async () => (await participant(room))?.tracks.length === 2);
      }
      // The first keyframe is gone.
      await eventually('two seconds of it', async () => (await server.metric('plenum_rtmp_frames_total', 'kind="video"')) > 120);
      const [often, seldom] = await Promise.all(['often', 'seldom'].map(watch));
      await seesMore(often, 'the one with many keyframes', { timeoutMs: 10_000 });
      await seesMore(seldom, 'the one with few keyframes', { timeoutMs: 20_000 });
    }));
});
