// What goes on beside the media: a codec asked for, a token renewed, a server that goes and comes back,
// another network, IPv6 alone.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { after, before, test } from 'node:test';
import { framesDecoded, join, launchChromium, pressJoin, seesAndHears, stats } from '../lib/browser.mjs';
import { startProxy } from '../lib/proxy.mjs';
import { claims, sign, startServer } from '../lib/server.mjs';
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

/** Opens pages as `open(link, options)` says, runs `body` with it, closes them all. */
async function withPages(body) {
  const pages = [];
  const open = async (link, options = {}) => {
    const page = await chromium.page(options);
    pages.push(page);
    await join(page, await link);
    return page;
  };
  try {
    await body(open);
    server.assertHealthy();
    for (const page of pages) assert.deepEqual(page.errors, []);
  } finally {
    for (const page of pages) await page.close();
  }
}

/** Every message the page got of a type, over all its sockets. */
const received = (page, type) => page.evaluate((t) =>
  window.plenumTest.sockets.flatMap((socket) => socket.received).filter((message) => message.t === t), type);

for (const codec of ['H264', 'VP9', 'AV1']) {
  test(`who decodes VP8 only sees a publisher who began in ${codec}`, { timeout: 80_000 }, () =>
    withPages(async (open) => {
      const room = `codec-${codec}`;
      const ann = await open(server.link(room, 'ann'), { codecFirst: codec });
      const cat = await open(server.link(room, 'cat'), { codec: 'VP8' });
      await seesAndHears(cat, 1, { codec });
      const ben = await open(server.link(room, 'ben'), { codec: 'VP8', decodesOnly: 'VP8' });
      await seesAndHears(ben, 2, { codec: 'VP8' });
      // Who could see it before still does.
      await seesAndHears(cat, 2, { codec: 'VP8' });
      const asked = await received(ann, 'codec');
      assert.deepEqual(asked.map((message) => message.codec), ['vp8'], 'asked once');
      const sent = (await stats(ann)).outbound.filter((s) => s.kind === 'video' && s.frames > 0);
      assert.ok(sent.every((s) => s.codec === 'VP8'), JSON.stringify(sent));
      assert.deepEqual(await received(cat, 'codec'), []);
    }));
}

test('a token is renewed during a meeting, and brings back a lost socket and a reloaded page', { timeout: 90_000 }, async () => {
  const proxy = await startProxy(server.url);
  try {
    await withPages(async (open) => {
      const ben = await open(server.link('renew', 'ben'));
      // Over already, within the 30 s that clocks may differ: good for about 10 s more.
      const ending = sign(claims('renew', 'ann', -20));
      const ann = await open(`${proxy.url}/?room=renew&token=${ending}`);
      await seesAndHears(ann, 1);
      const [{ token: fresh }] = await eventually('a fresh token', async () => {
        const tokens = await received(ann, 'token');
        return tokens.length > 0 && tokens;
      });
      await eventually('the old token to be over', async () => {
        const headers = { authorization: `Bearer ${ending}` };
        return (await (await fetch(`${server.url}/v1/rooms`, { headers })).json()).code === 'token_expired';
      }, { everyMs: 1000 });
      proxy.cut();
      const last = await eventually('the session to be resumed', async () => {
        const hellos = await ann.evaluate(() => window.plenumTest.sockets.map(({ sent, received: got }) => ({
          hello: sent.find((m) => m.t === 'hello'), welcome: got.find((m) => m.t === 'welcome'),
        })));
        const { hello, welcome } = hellos.at(-1);
        return { ok: hellos.length > 1 && welcome, token: hello?.token, resumed: welcome?.resumed };
      });
      assert.deepEqual([last.token, last.resumed], [fresh, true]);
      await seesAndHears(ann, 1);
      await ann.reload();
      await pressJoin(ann);
      await seesAndHears(ann, 1);
      await seesAndHears(ben, 1);
    });
  } finally {
    proxy.stop();
  }
});

test('who is muted by the room while its socket is down stays muted', { timeout: 60_000 }, async () => {
  const proxy = await startProxy(server.url);
  try {
    await withPages(async (open) => {
      const token = await server.token('order', 'ann');
      const ann = await open(`${proxy.url}/?room=order&token=${token}`);
      await open(server.link('order', 'ben'));
      await seesAndHears(ann, 1);
      const admin = claims('order', 'admin');
      admin.video.roomAdmin = true;
      const api = async (path, init = {}) => {
        const headers = { authorization: `Bearer ${sign(admin)}`, 'content-type': 'application/json' };
        const response = await fetch(`${server.url}/v1/rooms/order/participants${path}`, { ...init, headers });
        assert.ok(response.ok, `${response.status} ${path}`);
        return response.status === 204 ? undefined : response.json();
      };
      const microphone = async () => {
        const { items } = await api('');
        return items.find((one) => one.identity === 'ann').tracks.find((track) => track.source === 'microphone');
      };
      proxy.refuse = true;
      proxy.cut();
      const { id } = await microphone();
      await api(`/ann/tracks/${id}`, { method: 'PATCH', body: JSON.stringify({ muted: true }) });
      proxy.refuse = false;
      await eventually('the session to be resumed', async () =>
        (await received(ann, 'welcome')).at(-1)?.resumed === true);
      await ann.getByRole('button', { name: 'Unmute microphone' }).waitFor();
      assert.equal((await microphone()).muted, true);
      await ann.getByRole('button', { name: 'Unmute microphone' }).click();
      await eventually('the microphone to be heard again', async () => !(await microphone()).muted);
    });
  } finally {
    proxy.stop();
  }
});

test('a server that goes down and comes back is joined again by itself', { timeout: 90_000 }, () =>
  withPages(async (open) => {
    const ann = await open(server.link('deploy', 'ann'));
    const ben = await open(server.link('deploy', 'ben'));
    for (const page of [ann, ben]) await seesAndHears(page, 1);
    await server.restart();
    for (const page of [ann, ben]) {
      await eventually('a new stay', async () => {
        const welcomes = await received(page, 'welcome');
        return { ok: welcomes.length === 2 && !welcomes[1].resumed, welcomes: welcomes.length };
      }, { timeoutMs: 30_000 });
      await seesAndHears(page, 1);
      const told = [...await received(page, 'goaway'), ...await received(page, 'bye')];
      assert.ok(told.length > 0, 'it was told that the server goes');
    }
  }));

test('back online, the media path is looked for anew and nothing is lost', { timeout: 60_000 }, () =>
  withPages(async (open) => {
    const ann = await open(server.link('offline', 'ann'));
    await open(server.link('offline', 'ben'));
    await seesAndHears(ann, 1);
    const ufrag = () => ann.evaluate(() => /a=ice-ufrag:(\S+)/.exec(window.plenumTest.pcs[0].localDescription.sdp)[1]);
    const before = await ufrag();
    await chromium.offline(true);
    await sleep(1000);
    await chromium.offline(false);
    await eventually('new ICE credentials', async () => (await ufrag()) !== before);
    const frames = await framesDecoded(ann);
    await eventually('frames to go on', async () => (await framesDecoded(ann)) > frames + 10);
    assert.equal(await ann.evaluate(() => window.plenumTest.pcs.length), 1, 'the same stay');
  }));

const IP = '/usr/sbin/ip';
const ADDRESS = '2001:db8::1'; // of the range for documentation (RFC 3849): it leads nowhere

/** Gives the machine an IPv6 address where the tests have a network of their own. */
function addIpv6() {
  if (!process.env.PLENUM_INTEROP_NAMESPACE) return false;
  try {
    execFileSync(IP, ['-6', 'address', 'add', `${ADDRESS}/64`, 'dev', 'here', 'nodad'], { stdio: 'ignore' });
  } catch {
    return false;
  }
  return Object.values(os.networkInterfaces()).flat().some(({ address }) => address === ADDRESS);
}

test('two meet over IPv6 alone, by UDP and by TCP', { timeout: 90_000 }, async (context) => {
  if (!addIpv6()) return context.skip('no IPv6 here, or no network namespace to give it an address in');
  // It lists its addresses when it starts.
  const other = await startServer();
  const pages = [];
  try {
    for (const [name, options] of [['ann', {}], ['ben', {}], ['cat', { tcpOnly: true }]]) {
      const page = await chromium.page({ ...options, ipv6Only: true });
      pages.push(page);
      await join(page, await other.link('six', name));
    }
    for (const page of pages) await seesAndHears(page, 2);
    for (const [index, protocol] of ['udp', 'udp', 'tcp'].entries()) {
      const { pairs } = await stats(pages[index]);
      assert.ok(pairs.length > 0 && pairs.every((pair) => pair.address.includes(':') && pair.protocol === protocol), JSON.stringify(pairs));
    }
    other.assertHealthy();
  } finally {
    for (const page of pages) await page.close();
    await other.stop();
    execFileSync(IP, ['-6', 'address', 'del', `${ADDRESS}/64`, 'dev', 'here']);
  }
});
