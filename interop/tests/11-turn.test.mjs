// The TURN server of a room (mode "sfu"): real clients that may use no other way reach the room by it, who can
// go directly does, and it is good for nothing else.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium, publishPage, seesAndHears, stats } from '../lib/browser.mjs';
import { HERE, noNatlab, SRV, startNatlab } from '../lib/natlab.mjs';
import { coturn, noCoturn, receiveByAiortc } from '../lib/programs.mjs';
import { startPublicServer } from '../lib/server.mjs';
import { openTurnClient } from '../lib/turn-client.mjs';
import { eventually } from '../lib/wait.mjs';

const ROOM = 'turn';
const WHEP = `/whep/${ROOM}/ann`;

const skip = noNatlab();
let lab;
let client;
let server;
let chromium;
before(async () => {
  if (skip) return;
  lab = await startNatlab();
  client = await lab.client({ nat: 'symmetric' });
  server = await startPublicServer(lab);
  chromium = await launchChromium({ host: client, flags: ['--ignore-certificate-errors'] });
  await publishPage(chromium, server, ROOM, 'ann');
});
after(async () => {
  await chromium?.close();
  await server?.stop();
  await lab?.close();
});

/** Opens a page with `options` of page-hooks.js, runs `body` with it, closes it. */
async function withPage(options, body) {
  const page = await chromium.sdkPage(server.url, { timeFirstFrame: true, ...options });
  try {
    await body(page);
    assert.deepEqual(page.errors, []);
    server.assertHealthy();
  } finally {
    await page.evaluate(() => window.room?.disconnect());
    await page.close();
  }
}

/** Runs in the page: joins with the SDK and plays what it is given; `relay` takes no other way. */
const joinBySdk = async ([url, token, iceTransportPolicy]) => {
  window.room = new window.Plenum.Room({ rtcConfig: { iceTransportPolicy } });
  window.room.on('trackSubscribed', (track) => window.play(track.mediaStreamTrack));
  await window.room.connect(url, token);
};

/** What a participant of the room may use now: the answer of `GET /v1/ice-servers`. */
const iceServers = (token) => server.request('/v1/ice-servers', { headers: token ? { authorization: `Bearer ${token}` } : {} });

/** A page of `identity` in the room, and its credential; its page is closed after `body`. */
const withCredential = (identity, body) => withPage({}, async (page) => {
  const token = await server.token(ROOM, identity);
  await page.evaluate(joinBySdk, [server.url, token, 'all']);
  const { status, text } = await iceServers(token);
  assert.equal(status, 200, text);
  await body(JSON.parse(text).iceServers, page);
});

for (const over of ['udp', 'tcp', 'tls']) {
  test(`the SDK reaches the room by TURN over ${over} alone`, { skip, timeout: 60_000 }, (t) =>
    withPage({ turnOver: over }, async (page) => {
      await page.evaluate(joinBySdk, [server.url, await server.token(ROOM, `sdk-${over}`), 'relay']);
      await seesAndHears(page, 1, { own: 0 });
      const { pairs, candidates } = await stats(page);
      t.diagnostic(`the SDK by TURN over ${over}: ${JSON.stringify(pairs)}`);
      assert.deepEqual(pairs.map(({ local, relay, address, port }) => ({ local, relay, address, port })), [
        { local: 'relay', relay: over, address: SRV, port: 7800 },
      ]);
      assert.deepEqual([...new Set(candidates)], ['relay']);
    }));
}

/** Watches by WHEP as `identity` with `options` of `window.whep`, and ends it after `body`. */
const withWhep = (identity, options, body) => withPage({}, async (page) => {
  const token = await server.token(ROOM, identity, '--subscribe');
  const location = await page.evaluate((args) => window.whep(...args), [server.url + WHEP, token, options]);
  await seesAndHears(page, 1, { own: 0 });
  await body(page, await stats(page));
  const { status } = await server.request(new URL(location).pathname, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } });
  assert.equal(status, 200);
});

test('WHEP names the relays in its response, and they lead to the room', { skip, timeout: 60_000 }, (t) =>
  withWhep('whep-relay', { iceTransportPolicy: 'relay' }, async (page, { pairs }) => {
    t.diagnostic(`WHEP by TURN: ${JSON.stringify(pairs)}`);
    assert.deepEqual(pairs.map(({ local, remote }) => [local, remote]), [['relay', 'host']]);
    const urls = await page.evaluate(() => window.plenumTest.pcs[0].getConfiguration().iceServers.flatMap((one) => one.urls));
    assert.deepEqual(urls.sort(), [`turn:${SRV}:3478?transport=udp`, `turn:${SRV}:7800?transport=tcp`, `turns:${SRV}:443?transport=tcp`]);
  }));

test('who knows the relays and can go directly does', { skip, timeout: 60_000 }, (t) =>
  // Chromium would swallow media from an address and port that it knows as a TURN server's.
  withWhep('whep-direct', { gatherFirst: true }, (_, { pairs, candidates }) => {
    t.diagnostic(`any way allowed: ${JSON.stringify(pairs)}`);
    assert.ok(candidates.includes('relay'), `there was another way: ${candidates}`);
    assert.deepEqual(pairs, [{ protocol: 'udp', local: 'prflx', relay: null, remote: 'host', address: SRV, port: 7800 }]);
  }));

test('aiortc watches by TURN over UDP alone', { skip, timeout: 60_000 }, async (t) => {
  const { stdout, stderr } = await receiveByAiortc(server.url + WHEP, await server.token(ROOM, 'aiortc', '--subscribe'), {
    codec: 'VP8', seconds: 6, policy: 'relay', host: client, ca: server.certificate.cert,
  }).ended;
  const report = JSON.parse(stdout || JSON.stringify({ stderr }));
  t.diagnostic(`aiortc by TURN: ${stdout.trim()}`);
  assert.ok(report.video > 30 && report.last_second > 5 && report.audio > 100, JSON.stringify(report));
  assert.deepEqual([report.local, report.deleted], ['relay', 200]);
  server.assertHealthy();
});

test('only who is in the room is told the relays', { skip, timeout: 30_000 }, async () => {
  assert.equal((await iceServers()).status, 401);
  const absent = await iceServers(await server.token(ROOM, 'nobody'));
  assert.ok([403, 404].includes(absent.status), `${absent.status} ${absent.text}`);
});

test('coturn\'s client is let in and refused every peer but the room', { skip: skip || noCoturn(), timeout: 60_000 }, (t) =>
  withCredential('abuser', async ([{ username, credential: password }]) => {
    const ways = [['UDP', []], ['TCP', ['-t', '-p', '7800']], ['TLS', ['-t', '-S', '-p', '443']]];
    await Promise.all(ways.map(async ([name, flags]) => {
      const { code, stdout, stderr } = await coturn('uclient', [
        ...flags, '-c', '-u', username, '-w', password, '-e', HERE, '-n', '1', SRV,
      ], client).ended;
      t.diagnostic(`turnutils_uclient over ${name}: ${/channel bind: error .*/.exec(stdout + stderr)}`);
      assert.match(stdout + stderr, /channel bind: error 403/, name);
      assert.notEqual(code, 0);
    }));
    const ports = () => lab.srv.sh('cat /proc/net/udp /proc/net/udp6').match(/:[0-9A-F]{4} [0-9A-F]+:0000/g).length;
    const before = ports();
    const own = await openTurnClient(SRV, 3478, { username, password });
    try {
      assert.equal((await own.allocate()).code, 0);
      assert.equal(ports(), before, 'a relayed address takes no port of the machine');
      assert.equal((await own.permit(HERE)).code, 403);
      assert.equal((await own.bindChannel(0x4000, SRV, 22)).code, 403);
      assert.equal((await own.bindChannel(0x4000, SRV, 7800)).code, 0);
      assert.equal((await own.refresh(0)).code, 0);
    } finally {
      own.close();
    }
  }));

test('who is removed from the room is removed from the relay', { skip, timeout: 60_000 }, (t) =>
  withCredential('eve', async ([{ username, credential: password }]) => {
    // Those of participants of the tests above have ended with them.
    const allocations = (count) => eventually(`${count} allocation(s)`, async () => {
      const seen = await server.metric('plenum_turn_allocations');
      return { ok: seen === count, seen };
    });
    await allocations(0);
    const open = await openTurnClient(SRV, 3478, { username, password });
    const late = await openTurnClient(SRV, 3478, { username, password });
    try {
      assert.equal((await open.allocate()).code, 0);
      assert.equal((await open.bindChannel(0x4000, SRV, 7800)).code, 0);
      await allocations(1);
      await server.command('participants', 'kick', ROOM, 'eve');
      await allocations(0);
      const [refreshed, allocated] = [await open.refresh(600), await late.allocate()];
      t.diagnostic(`after the removal: Refresh ${refreshed.code}, a new Allocate ${allocated.code}`);
      assert.notEqual(refreshed.code, 0);
      assert.equal(allocated.code, 401);
    } finally {
      open.close();
      late.close();
    }
  }));
