// A room's broadcast pushed by RTMP to nginx, which comes and goes, and read as HTTP-FLV: its source is
// ffmpeg, and so is who looks at what arrives.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { complaints, encode, probe } from '../lib/encoders.mjs';
import { startNginx } from '../lib/nginx-rtmp.mjs';
import { freePort, startServer } from '../lib/server.mjs';
import { eventually, sleep } from '../lib/wait.mjs';

const ROOM = 'stage';
const KEYS = ['live_first-secret', 'live_second-secret?bandwidthtest=true', 'live_third-secret'];

/** Runs `body` with a server, an encoder that publishes in `ROOM`, and nginx. */
async function withStage(body, { gop = 15 } = {}) {
  const port = await freePort();
  const config = { broadcast: { rtmp_addr: `127.0.0.1:${port}` }, log: { level: 'debug' } };
  const [server, nginx] = [await startServer({ config }), await startNginx()];
  const token = await server.token(ROOM, 'encoder', '--publish', 'camera,microphone');
  const picture = ['-c:v', 'libx264', '-profile:v', 'baseline', '-preset', 'ultrafast', '-tune', 'zerolatency', '-bf', '0', '-g', String(gop)];
  const encoder = encode(`rtmp://127.0.0.1:${port}/live/${ROOM}?token=${token}`, { picture });
  try {
    await nginx.start();
    await eventually('the encoder to publish', async () => {
      const { body: seen } = await server.api(ROOM, 'GET', '/participants/encoder');
      return { ok: seen.tracks?.length === 2, seen, output: encoder.output().slice(-300) };
    });
    const answers = [];
    const api = async (method, path, sent) => {
      const answer = await server.api(ROOM, method, path, sent);
      answers.push(JSON.stringify(answer.body));
      return answer;
    };
    await body({
      server,
      nginx,
      api,
      /** Everything the API has answered. */
      answers: () => answers.join('\n'),
      /** The targets of the room's first broadcast. */
      targets: async () => (await api('GET', '/broadcasts')).body.items[0].targets,
    });
    server.assertHealthy();
  } finally {
    await encoder.stop();
    await nginx.stop();
    await server.stop();
  }
}

/** Waits until a target is in that state. */
const becomes = (stage, id, state, timeoutMs) =>
  eventually(`target ${id} to be ${state}`, async () => {
    const target = (await stage.targets()).find((one) => one.id === id);
    return { ok: target?.state === state, ...target };
  }, { timeoutMs });

/** What arrives is what players of RTMP expect, and decodes. */
async function arrives(url) {
  const { streams } = await probe(url, ['-rw_timeout', '15000000']);
  const seen = streams.map((s) => [s.codec_name, s.width ?? s.sample_rate, s.height ?? s.channels]).sort();
  assert.deepEqual(seen, [['aac', '48000', 2], ['h264', 320, 180]]);
  assert.equal(await complaints(url, { before: ['-rw_timeout', '15000000'], after: ['-t', '2'] }), '');
}

test('a broadcast goes to nginx, and goes on when nginx comes back after ten seconds', { timeout: 90_000 }, () =>
  withStage(async (stage) => {
    const { nginx, api } = stage;
    const { status, body } = await api('POST', '/broadcasts', { targets: [{ url: `${nginx.url}/live`, key: KEYS[0] }] });
    assert.equal(status, 201, JSON.stringify(body));
    const [{ id, url }] = body.targets;
    assert.equal(url, `${nginx.url}/live`);
    await becomes(stage, id, 'live');
    await arrives(`${nginx.url}/live/${KEYS[0]}`);

    await nginx.kill();
    const waiting = await becomes(stage, id, 'waiting');
    assert.ok(waiting.error, 'it is said why');
    await sleep(10_000); // so long is nginx away
    assert.notEqual((await stage.targets())[0].state, 'live');
    await nginx.start();
    const live = await becomes(stage, id, 'live', 30_000);
    assert.equal(live.connections, 2);
    assert.equal(live.error, undefined);
    await arrives(`${nginx.url}/live/${KEYS[0]}`);
  }));

test('three targets at once, of which one is dead; more come and go; keys stay secret', { timeout: 90_000 }, () =>
  withStage(async (stage) => {
    const { server, nginx, api } = stage;
    const dead = `rtmp://127.0.0.1:${await freePort()}/live`;
    const { status, body } = await api('POST', '/broadcasts', {
      targets: [
        { url: `${nginx.url}/live`, key: KEYS[0] },
        { url: dead, key: KEYS[1] },
        { url: `${nginx.url}/live/${KEYS[2]}` },
      ],
    });
    assert.equal(status, 201, JSON.stringify(body));
    const [first, second, third] = body.targets.map((target) => target.id);
    await Promise.all([becomes(stage, first, 'live'), becomes(stage, third, 'live')]);
    assert.match((await becomes(stage, second, 'waiting')).error, /\w/);
    await Promise.all([arrives(`${nginx.url}/live/${KEYS[0]}`), arrives(`${nginx.url}/live/${KEYS[2]}`)]);

    // One more, which refuses, and one that works.
    const path = `/broadcasts/${body.id}/targets`;
    const refusing = await api('POST', path, { url: `${nginx.url}/closed`, key: KEYS[1] });
    const added = await api('POST', path, { url: `${nginx.url}/live`, key: KEYS[1] });
    assert.deepEqual([refusing.status, added.status], [201, 201]);
    await becomes(stage, added.body.id, 'live');
    await arrives(`${nginx.url}/live/${KEYS[1]}`);
    await eventually('the refusal to be told', async () => {
      const target = (await stage.targets()).find(({ id }) => id === refusing.body.id);
      return { ok: ['waiting', 'failed'].includes(target.state) && target.error, ...target };
    });

    // One less.
    assert.equal((await api('DELETE', `${path}/${first}`)).status, 204);
    assert.equal((await api('DELETE', `${path}/${first}`)).status, 404);
    assert.ok((await stage.targets()).every(({ id }) => id !== first));
    await assert.rejects(probe(`${nginx.url}/live/${KEYS[0]}`, ['-rw_timeout', '2000000']), 'nothing arrives any more');
    const before = (await stage.targets()).find(({ id }) => id === third);
    await eventually('the third to go on', async () => {
      const now = (await stage.targets()).find(({ id }) => id === third);
      return { ok: now.state === 'live' && now.bytes > before.bytes, now };
    });
    assert.equal((await api('DELETE', `/broadcasts/${body.id}`)).status, 204);
    await eventually('the end', async () => (await api('GET', `/broadcasts/${body.id}`)).body.state === 'ended');
    await assert.rejects(probe(`${nginx.url}/live/${KEYS[2]}`, ['-rw_timeout', '2000000']), 'nothing arrives any more');

    for (const key of KEYS) {
      assert.ok(!stage.answers().includes(key), `${key} is in an answer`);
      assert.ok(!server.output().includes(key), `${key} is in the log`);
    }
  }));

test('addresses that are none are refused, and begin nothing', { timeout: 60_000 }, () =>
  withStage(async ({ nginx, api }) => {
    const wrong = [
      { url: 'http://127.0.0.1/live', key: 'k' },
      { url: 'rtmp://127.0.0.1' },
      { url: 'rtmp://127.0.0.1/live' },
      { url: 'rtmp:///live', key: 'k' },
      { url: 'rtmp://127.0.0.1:99999/live', key: 'k' },
      { url: 'rtmp://me:secret@127.0.0.1/live', key: 'k' },
      { url: `${nginx.url}/live`, key: '' },
      { url: `${nginx.url}/live`, key: 'two\r\nlines' },
      { url: `${nginx.url}/live/`, key: 'k', name: 'unknown field' },
    ];
    for (const target of wrong) {
      const { status, body } = await api('POST', '/broadcasts', { targets: [target] });
      assert.equal(status, 400, `${JSON.stringify(target)}: ${JSON.stringify(body)}`);
      assert.ok(body.detail && !body.detail.includes('secret@'), body.detail);
    }
    assert.deepEqual((await api('GET', '/broadcasts')).body.items, []);
    const { body } = await api('POST', '/broadcasts', {});
    for (const target of wrong) {
      const { status } = await api('POST', `/broadcasts/${body.id}/targets`, target);
      assert.equal(status, 400, JSON.stringify(target));
    }
    assert.deepEqual((await api('GET', '/broadcasts')).body.items[0].targets, []);
  }));

test('HTTP-FLV is read without a complaint, and begins with a picture however late one joins', { timeout: 60_000 }, () =>
  withStage(async ({ server, api }) => {
    const { body } = await api('POST', '/broadcasts', {});
    const url = `${server.url}${body.flv.url}`;
    await eventually('the picture', async () => (await api('GET', '/broadcasts')).body.items[0].onAir.video === 'picture');
    const { streams } = await probe(url);
    assert.deepEqual(streams.map((s) => s.codec_name).sort(), ['aac', 'h264']);
    assert.equal(await complaints(url, { after: ['-t', '4'] }), '');

    // Keyframes are three seconds apart: whoever joins gets the last one.
    for (let joiner = 0; joiner < 3; joiner += 1) {
      const args = ['-v', 'error', '-show_entries', 'packet=codec_type,pts_time,flags', '-of', 'json', '-read_intervals', '%+2', url];
      const { stdout } = await promisify(execFile)('ffprobe', args, { timeout: 20_000 });
      const { packets } = JSON.parse(stdout);
      const picture = packets.find((packet) => packet.codec_type === 'video');
      assert.match(picture.flags, /K/, 'a keyframe first');
      const begins = Math.min(...packets.map((packet) => Number(packet.pts_time)));
      assert.ok(Number(picture.pts_time) - begins < 1, `it comes after ${Number(picture.pts_time) - begins} s`);
    }
    assert.equal((await server.request('/live/nowhere.flv')).status, 404);
    await eventually('all viewers to be gone', async () => (await server.metric('plenum_broadcast_flv_viewers')) === 0);
  }, { gop: 45 }));
