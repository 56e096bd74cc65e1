// Recordings of a room's program and of single tracks, through the API: what is downloaded is looked at by
// ffprobe and decoded by ffmpeg; servers that are killed, and disks that are full.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { framesDecoded, launchChromium } from '../lib/browser.mjs';
import { complaints, encode, probe } from '../lib/encoders.mjs';
import { claims, freePort, sign, startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

const ROOM = 'stage';

let chromium;
before(async () => {
  chromium = await launchChromium();
});
after(() => chromium?.close());

/** Runs `body` with a server that records into a folder of its own, and with what it needs; ends what it started. */
async function withRecorder(body, { recording = {}, host } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-recordings-'));
  const dir = path.join(folder, 'recordings');
  fs.mkdirSync(dir);
  const port = await freePort();
  const server = await startServer({
    host: host?.(dir),
    config: { broadcast: { rtmp_addr: `127.0.0.1:${port}` }, recording: { dir, min_free_mb: 0, ...recording } },
  });
  const running = [];
  const own = (program) => {
    running.push(program);
    return program;
  };
  const recordings = '/recordings';
  const stage = {
    server,
    dir,
    own,
    api: (method, path, sent, token) => server.api(ROOM, method, path, sent, token),
    /** An encoder publishes; resolves when it does. */
    async encode() {
      const token = await server.token(ROOM, 'encoder', '--publish', 'camera,microphone');
      const encoder = own(encode(`rtmp://127.0.0.1:${port}/live/${ROOM}?token=${token}`));
      await eventually('the encoder to publish', async () => {
        const { body: seen } = await stage.api('GET', '/participants/encoder');
        return { ok: seen.tracks?.length === 2, seen, output: encoder.output().slice(-300) };
      });
      return encoder;
    },
    /** Starts a recording; its id. */
    async record(sent = {}) {
      const { status, body: begun, headers } = await stage.api('POST', recordings, sent);
      assert.equal(status, 201, JSON.stringify(begun));
      assert.equal(headers.location, `/v1/rooms/${ROOM}/recordings/${begun.id}`);
      return begun.id;
    },
    /** A recording once `is` says so. */
    async once(id, what, is, timeoutMs = 30_000) {
      return eventually(`the recording to be ${what}`, async () => {
        const { body: seen } = await stage.api('GET', `${recordings}/${id}`);
        return { ok: is(seen), ...seen };
      }, { timeoutMs });
    },
    /** Waits until a recording has so many seconds. */
    lasts: (id, seconds) => stage.once(id, `${seconds} s long`, (seen) => seen.durationMs >= seconds * 1000),
    async stop(id) {
      const { status } = await stage.api('POST', `${recordings}/${id}/stop`);
      assert.equal(status, 204);
      return stage.once(id, 'ready', (seen) => seen.state === 'ready');
    },
    /** Downloads a file of a recording whole, to the disk: where it is there, and the answer's fields. */
    async download(id, number = 0) {
      const response = await stage.get(`${recordings}/${id}/files/${number}`);
      assert.equal(response.status, 200);
      const file = path.join(folder, `${id}-${number}`);
      fs.writeFileSync(file, Buffer.from(await response.arrayBuffer()));
      return { file, headers: response.headers };
    },
    /** A request of a moderator for what is not JSON. */
    get: (of, headers = {}) =>
      fetch(`${server.url}/v1/rooms/${ROOM}${of}`, { headers: { authorization: `Bearer ${moderator()}`, ...headers } }),
  };
  try {
    await body(stage);
    server.assertHealthy();
  } finally {
    for (const program of running.reverse()) await program.stop();
    await server.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function moderator() {
  const { video, ...rest } = claims(ROOM, 'moderator');
  return sign({ ...rest, video: { ...video, roomAdmin: true } });
}

/** The file decodes without a complaint; its streams by kind: codec and seconds. */
async function plays(file) {
  assert.equal(await complaints(file), '');
  const { streams, format } = await probe(file);
  const seconds = Number(format.duration);
  return { codecs: streams.map((s) => s.codec_name).sort().join(), seconds, format: format.format_name, streams };
}

/** The names of an MP4's boxes, in order. */
function boxes(file) {
  const bytes = fs.readFileSync(file);
  const names = [];
  for (let at = 0; at < bytes.length;) {
    names.push(bytes.toString('latin1', at + 4, at + 8));
    const size = bytes.readUInt32BE(at);
    at += size === 1 ? Number(bytes.readBigUInt64BE(at + 8)) : size || bytes.length;
  }
  return names;
}

test('the program is recorded, stopped, downloaded whole and in ranges, and deleted', { timeout: 90_000 }, () =>
  withRecorder(async (stage) => {
    const { api, get, dir } = stage;
    await stage.encode();
    const began = Date.now();
    const id = await stage.record();
    assert.equal((await api('DELETE', `/recordings/${id}`)).status, 409, 'not while it runs');
    await stage.lasts(id, 5);
    const known = await stage.stop(id);
    const passed = (Date.now() - began) / 1000;
    assert.equal((await api('POST', `/recordings/${id}/stop`)).status, 409, 'it is over');
    assert.equal(known.files.length, 1);

    const { file, headers } = await stage.download(id);
    const { size } = fs.statSync(file);
    assert.equal(size, known.files[0].bytes);
    assert.equal(headers.get('content-length'), String(size));
    assert.equal(headers.get('content-type'), 'video/mp4');
    assert.match(headers.get('content-disposition'), /^attachment; filename="[\w.-]+\.mp4"$/);
    const { codecs, seconds, streams } = await plays(file);
    assert.equal(codecs, 'aac,h264');
    assert.ok(Math.abs(seconds - known.durationMs / 1000) < 0.5, `${seconds} s, and ${known.durationMs} ms by the API`);
    assert.ok(seconds > 5 && seconds < passed + 0.5, `${seconds} s in ${passed} s`);
    // Sound is kept from before the first keyframe; both end together.
    for (const stream of streams) {
      const [start, length] = [Number(stream.start_time), Number(stream.duration)];
      assert.ok(start < 2 && Math.abs(start + length - seconds) < 0.5, JSON.stringify(stream));
    }
    const names = boxes(file);
    assert.ok(names.indexOf('moov') > 0 && names.indexOf('moov') < names.indexOf('mdat'), names.join());

    const whole = fs.readFileSync(file);
    const half = Math.floor(size / 2);
    for (const [range, from, to] of [
      ['bytes=0-99', 0, 100], [`bytes=${half}-`, half, size], ['bytes=-500', size - 500, size], [`bytes=100-${size * 2}`, 100, size],
    ]) {
      const part = await get(`/recordings/${id}/files/0`, { range });
      assert.equal(part.status, 206, range);
      assert.equal(part.headers.get('content-range'), `bytes ${from}-${to - 1}/${size}`);
      assert.ok(whole.subarray(from, to).equals(Buffer.from(await part.arrayBuffer())), range);
    }
    for (const range of [`bytes=${size}-`, 'bytes=20-10']) {
      const none = await get(`/recordings/${id}/files/0`, { range });
      assert.equal(none.status, 416, range);
      assert.equal(none.headers.get('content-range'), `bytes */${size}`);
      await none.arrayBuffer();
    }

    // ffmpeg seeks in it over HTTP, by ranges.
    const url = `${stage.server.url}/v1/rooms/${ROOM}/recordings/${id}/files/0`;
    const before = ['-headers', `authorization: Bearer ${moderator()}\r\n`, '-ss', '3'];
    assert.equal(await complaints(url, { before }), '');

    assert.ok(fs.readdirSync(dir, { recursive: true }).some((name) => name.endsWith('.mp4')));
    assert.equal((await api('DELETE', `/recordings/${id}`)).status, 204);
    assert.equal((await api('GET', `/recordings/${id}`)).status, 404);
    assert.equal((await api('DELETE', `/recordings/${id}`)).status, 404);
    assert.deepEqual((await api('GET', '/recordings')).body.items, []);
    const left = fs.readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    assert.deepEqual(left.map((entry) => entry.name), []);
  }));

test('single tracks: a camera in H264, one in VP8, a microphone', { timeout: 90_000 }, () =>
  withRecorder(async (stage) => {
    const { server, api } = stage;
    const publish = async (identity, codec) => {
      const page = await chromium.rawPage(server.url, { codec });
      const token = await server.token(ROOM, identity);
      await page.evaluate(([url, jwt]) => window.whip(url, jwt, { width: 320, height: 180 }), [`${server.url}/whip/${ROOM}`, token]);
      stage.own({ stop: () => page.close() });
      const { body: seen } = await eventually(`${identity} to publish`, async () => {
        const answer = await api('GET', `/participants/${identity}`);
        return { ok: answer.body.tracks?.length === 2, ...answer };
      });
      const of = (kind) => seen.tracks.find((track) => track.kind === kind).id;
      return { page, camera: of('video'), microphone: of('audio') };
    };
    const [ann, ben] = [await publish('ann', 'H264'), await publish('ben', 'VP8')];
    const tracks = [ann.camera, ben.camera, ann.microphone];
    const ids = await Promise.all(tracks.map((track) => stage.record({ track })));
    for (const id of ids) await stage.lasts(id, 4);
    // Who leaves ends the recording of what it published.
    await ben.page.close();
    const left = await stage.once(ids[1], 'over', (seen) => ['ready', 'failed'].includes(seen.state), 45_000);
    assert.equal(left.state, 'ready', JSON.stringify(left));
    for (const id of [ids[0], ids[2]]) await stage.stop(id);

    const found = [];
    for (const [place, id] of ids.entries()) {
      const { file } = await stage.download(id);
      const { codecs, seconds, format } = await plays(file);
      const { body: known } = await api('GET', `/recordings/${id}`);
      assert.equal(known.track, tracks[place]);
      assert.equal(known.files.length, 1, JSON.stringify(known.files));
      found.push([codecs, known.files[0].container, format.includes(known.files[0].container)]);
      assert.ok(seconds > 3.5 && Math.abs(seconds - known.durationMs / 1000) < 0.5, `${codecs}: ${seconds} s, ${known.durationMs} ms`);
    }
    assert.deepEqual(found.slice(0, 2), [['h264', 'mp4', true], ['vp8', 'webm', true]]);
    assert.deepEqual([found[2][0], found[2][2]], ['opus', true]);

    for (const track of ['t_ffffffffffff0000', '../../etc/passwd', ben.camera]) {
      assert.equal((await api('POST', '/recordings', { track })).status, 404, track);
    }
    assert.equal((await server.api('elsewhere', 'POST', '/recordings', { track: ann.camera })).status, 404);
  }));

test('recordings are there after a restart, and after the server was killed they play', { timeout: 90_000 }, () =>
  withRecorder(async (stage) => {
    const { server, api } = stage;
    await stage.encode();
    const first = await stage.record();
    await stage.lasts(first, 2);
    await stage.stop(first);
    const { body: known } = await api('GET', `/recordings/${first}`);
    const second = await stage.record();
    await stage.lasts(second, 3);
    const before = await stage.once(second, 'running', (seen) => seen.state === 'recording');
    server.signal('SIGKILL');
    await server.restart();
    const after = await stage.once(second, 'finished', (seen) => ['ready', 'failed'].includes(seen.state));
    assert.equal(after.state, 'ready', JSON.stringify(after));
    const { body: list } = await api('GET', '/recordings');
    assert.deepEqual(list.items.map(({ id }) => id), [first, second]);
    assert.deepEqual(list.items[0], known);
    for (const id of [first, second]) {
      const { file } = await stage.download(id);
      const { codecs, seconds } = await plays(file);
      assert.equal(codecs, 'aac,h264');
      const names = boxes(file);
      assert.ok(names.indexOf('moov') < names.indexOf('mdat'), names.join());
      if (id === second) assert.ok(seconds > before.durationMs / 1000 - 1.5, `${seconds} s of ${before.durationMs} ms are left`);
    }
    // A server that ends as it should ends its recordings so, too.
    await stage.encode();
    const third = await stage.record();
    await stage.lasts(third, 2);
    await server.restart();
    await stage.once(third, 'finished', (seen) => seen.state === 'ready');
    assert.equal((await plays((await stage.download(third)).file)).codecs, 'aac,h264');
  }));

const cannotMount = (() => {
  const { status, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', 'mount -t tmpfs none /mnt']);
  return status === 0 ? false : `a small disk cannot be mounted: ${String(stderr).trim()}`;
})();

/** Has the server see a disk of so many megabytes at `dir`, in a mount namespace of its own. */
const withDisk = (megabytes) => (dir) => ({
  command: (file, args) => [
    'unshare', ['--mount', 'sh', '-c', `mount -t tmpfs -o size=${megabytes}m none "$0" && exec "$@"`, dir, file, ...args],
  ],
});

test('a full disk ends a recording and nothing else', { timeout: 90_000, skip: cannotMount }, () =>
  withRecorder(async (stage) => {
    const { server, dir, api } = stage;
    await stage.encode();
    const page = await chromium.rawPage(server.url);
    stage.own({ stop: () => page.close() });
    const viewer = await server.token(ROOM, 'viewer', '--subscribe');
    await page.evaluate(([url, jwt]) => window.whep(url, jwt), [`${server.url}/whep/${ROOM}`, viewer]);
    const { body: broadcast } = await api('POST', '/broadcasts', { record: true });
    const program = broadcast.recording;
    const alone = await stage.record();
    for (const id of [program, alone]) await stage.lasts(id, 3);

    // Everything that is left of the disk, as the server sees it.
    const filler = path.join('/proc', String(server.pid), 'root', dir, 'filler');
    const full = fs.openSync(filler, 'w');
    try {
      for (;;) fs.writeSync(full, Buffer.alloc(65_536));
    } catch (error) {
      assert.equal(error.code, 'ENOSPC');
    } finally {
      fs.closeSync(full);
    }
    for (const id of [program, alone]) {
      const failed = await stage.once(id, 'over', (seen) => ['ready', 'failed'].includes(seen.state));
      assert.deepEqual([failed.state, failed.reason], ['failed', 'disk_full']);
      // There is no room to make one file of what was recorded.
      let saved = 0;
      for (const number of failed.files.keys()) {
        const { codecs, seconds } = await plays((await stage.download(id, number)).file);
        assert.equal(codecs, 'aac,h264');
        saved += seconds;
      }
      assert.ok(saved > 2, `${saved} s were saved of ${failed.durationMs} ms`);
    }
    const { status } = await api('POST', '/recordings', {});
    assert.ok(status >= 400 && status < 500, `${status} while the disk is full`);

    const playlist = async () => {
      const { text } = await server.request(`/live/${ROOM}/index.m3u8`);
      const media = text.split('\n').find((line) => line && !line.startsWith('#'));
      return (await server.request(`/live/${ROOM}/${media}`)).text.match(/#EXT-X-MEDIA-SEQUENCE:\d+|#EXTINF/g)?.join();
    };
    const [hls, frames] = [await playlist(), await framesDecoded(page)];
    await eventually('the broadcast and the room to go on', async () => {
      const now = { hls: await playlist(), frames: await framesDecoded(page) };
      return { ok: now.hls && now.hls !== hls && now.frames > frames + 15, ...now };
    });

    fs.rmSync(filler);
    const again = await stage.record();
    await stage.lasts(again, 1);
    await stage.stop(again);
  }, { host: withDisk(16) }));

test('who may not moderate gets nothing, and no path leads out of the folder', { timeout: 60_000 }, () =>
  withRecorder(async (stage) => {
    const { server, api } = stage;
    await stage.encode();
    const id = await stage.record();
    await stage.lasts(id, 1);
    await stage.stop(id);
    const requests = [
      ['GET', '/recordings'], ['POST', '/recordings'], ['GET', `/recordings/${id}`],
      ['POST', `/recordings/${id}/stop`], ['GET', `/recordings/${id}/files/0`], ['DELETE', `/recordings/${id}`],
    ];
    const other = claims('elsewhere', 'moderator');
    for (const [method, of] of requests) {
      const sent = method === 'POST' ? {} : undefined;
      assert.equal((await api(method, of, sent, await server.token(ROOM, 'guest'))).status, 403, `${method} ${of} of a participant`);
      const foreign = sign({ ...other, video: { ...other.video, roomAdmin: true } });
      assert.equal((await api(method, of, sent, foreign)).status, 403, `${method} ${of} of another room's moderator`);
      assert.equal((await api(method, of, sent, 'nonsense')).status, 401, `${method} ${of} without a token`);
    }
    const tricks = [
      `/recordings/${id}/files/1`, `/recordings/${id}/files/-1`, `/recordings/${id}/files/..%2frecording.json`,
      `/recordings/${id}/files/recording.json`, `/recordings/${id}/files/18446744073709551616`, `/recordings/${id}%00`,
      '/recordings/..', '/recordings/..%2f..%2f..%2fetc%2fpasswd', '/recordings/%2e%2e%2frecording.json/files/0',
      `/recordings/rec_${'0'.repeat(32)}`, `/recordings/${id.toUpperCase()}`, '/recordings/rec_', `/recordings/../${id}/files/0`,
    ];
    for (const trick of tricks) {
      const { status } = await server.request(`/v1/rooms/${ROOM}${trick}`, { headers: { authorization: `Bearer ${moderator()}` } });
      assert.equal(status, 404, trick);
    }
    // Another room's moderator does not reach it by its id, either.
    for (const of of ['', '/files/0']) {
      assert.equal((await server.api('elsewhere', 'GET', `/recordings/${id}${of}`)).status, 404);
    }
    assert.equal((await server.api('elsewhere', 'DELETE', `/recordings/${id}`)).status, 404);
    assert.equal((await api('GET', `/recordings/${id}`)).body.state, 'ready');
  }));

test('a recording ends when it is as long as any may be', { timeout: 60_000 }, () =>
  withRecorder(async (stage) => {
    await stage.encode();
    const id = await stage.record();
    const ended = await stage.once(id, 'over', (seen) => ['ready', 'failed'].includes(seen.state));
    assert.equal(ended.state, 'ready');
    assert.ok(Math.abs(ended.durationMs - 3000) < 500, `${ended.durationMs} ms`);
    const next = await stage.record();
    await stage.lasts(next, 1);
    await stage.stop(next);
  }, { recording: { max_duration: '3s' } }));

test('where there is no folder nothing is recorded', { timeout: 60_000 }, () =>
  withRecorder(async ({ api }) => {
    for (const [of, sent] of [['/recordings', {}], ['/broadcasts', { record: true }]]) {
      const { status, body } = await api('POST', of, sent);
      assert.equal(status, 409, `${of}: ${JSON.stringify(body)}`);
      assert.match(body.detail, /record/);
    }
    const { status, body } = await api('GET', '/recordings');
    assert.deepEqual([status, body.items], [200, []]);
    assert.deepEqual((await api('GET', '/broadcasts')).body?.items ?? [], []);
  }, { recording: { dir: '' } }));
