// People in Chromium meet through the meeting page: every codec, three at once, screen, chat, TCP only,
// a lost socket.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { framesDecoded, join, launchChromium, seesAndHears, stats } from '../lib/browser.mjs';
import { startProxy } from '../lib/proxy.mjs';
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

/** Opens one page for each name in `room`, runs `body` with them, closes them. */
async function meeting(room, names, options, body) {
  const pages = [];
  try {
    for (const name of names) {
      const page = await chromium.page(options);
      pages.push(page);
      const link = await server.link(room, name);
      await join(page, options.through ? link.replace(server.url, options.through) : link);
    }
    await body(...pages);
    server.assertHealthy();
    for (const page of pages) assert.deepEqual(page.errors, []);
  } finally {
    for (const page of pages) await page.close();
  }
}

for (const codec of ['VP8', 'H264', 'VP9', 'AV1']) {
  test(`two meet in ${codec}`, { timeout: 60_000 }, () =>
    meeting(`two-${codec}`, ['ann', 'ben'], { codec }, async (...pages) => {
      const padded = await server.metric('plenum_rtp_padded_packets_total');
      for (const page of pages) await seesAndHears(page, 1, { codec });
      // What libwebrtc cuts into unequal parts is evened out by padding, which it decodes all the same.
      if (codec !== 'AV1') {
        await eventually('padded packets to have been among them', async () =>
          (await server.metric('plenum_rtp_padded_packets_total')) > padded);
        for (const page of pages) await seesAndHears(page, 1, { codec });
      }
    }));
}

test('three meet, each sees and hears both others', { timeout: 80_000 }, () =>
  meeting('three', ['ann', 'ben', 'cat'], {}, async (...pages) => {
    for (const page of pages) await seesAndHears(page, 2);
    await pages[2].close();
    await eventually('the tile of who left to go', async () => {
      const count = await pages[0].evaluate(() => window.plenumTest.pictures().length);
      return { ok: count === 2, count };
    });
  }));

test('two meet over ICE-TCP alone', { timeout: 60_000 }, () =>
  meeting('tcp', ['ann', 'ben'], { tcpOnly: true }, async (...pages) => {
    for (const page of pages) {
      await seesAndHears(page, 1);
      const { pairs } = await stats(page);
      // With several local addresses Chromium may nominate one pair after another.
      assert.deepEqual([...new Set(pairs.map((pair) => pair.protocol))], ['tcp']);
    }
  }));

test('a shared screen is seen by the other', { timeout: 60_000 }, () =>
  meeting('screen', ['ann', 'ben'], {}, async (ann, ben) => {
    await seesAndHears(ben, 1);
    const before = await ben.evaluate(() => window.plenumTest.pictures().length);
    await ann.getByRole('button', { name: /share.*screen|screen.*share|present/i }).first().click();
    await eventually('one more moving picture', async () => {
      const count = await ben.evaluate(() => window.plenumTest.pictures().length);
      return { ok: count > before, count };
    });
    await seesAndHears(ben, 2);
    await ann.getByRole('button', { name: /stop.*(shar|screen|present)|share.*screen|screen.*share/i }).first().click();
    await eventually('the screen to go', async () => {
      const count = await ben.evaluate(() => window.plenumTest.pictures().length);
      return { ok: count === before, count };
    });
  }));

test('a chat message arrives', { timeout: 60_000 }, () =>
  meeting('chat', ['ann', 'ben'], {}, async (ann, ben) => {
    await seesAndHears(ben, 1);
    const text = 'hello from ann: Grüße & <b>tags</b>';
    await ann.getByRole('button', { name: /chat/i }).first().click();
    await ann.getByRole('textbox', { name: /message|chat/i }).first().fill(text);
    await ann.keyboard.press('Enter');
    await ben.getByRole('button', { name: /chat/i }).first().click();
    await ben.getByText(text).first().waitFor();
  }));

test('a killed WebSocket is resumed while media goes on', { timeout: 90_000 }, async () => {
  const proxy = await startProxy(server.url);
  try {
    await meeting('resume', ['ann', 'ben'], { through: proxy.url }, async (ann, ben) => {
      for (const page of [ann, ben]) await seesAndHears(page, 1);
      const signalling = (page) => page.evaluate(() => window.plenumTest.sockets.map(({ socket, sent, received }) => ({
        state: socket.readyState,
        resumes: sent.some((m) => m.t === 'hello' && m.resume),
        session: received.find((m) => m.t === 'welcome')?.session,
        unknown: received.some((m) => m.code === 'resume_unknown'),
      })));
      const [first] = await signalling(ann);

      proxy.refuse = true;
      proxy.cut();
      // Frames must keep coming while there is no socket at all, and while it is resumed.
      let frames = await framesDecoded(ann);
      for (let i = 0; i < 8; i += 1) {
        await sleep(700);
        const now = await framesDecoded(ann);
        assert.ok(now > frames, `frames go on without a socket (sample ${i}: ${frames}, ${now})`);
        frames = now;
        if (i === 3) proxy.refuse = false;
      }
      const last = await eventually('the session to be resumed', async () => {
        const sockets = await signalling(ann);
        const socket = sockets.at(-1);
        return { ok: sockets.length > 1 && socket.state === 1 && socket.session, ...socket, count: sockets.length };
      });
      assert.ok(last.resumes && !last.unknown, 'the socket resumed the session');
      assert.equal(last.session, first.session);
      assert.equal(await ann.evaluate(() => window.plenumTest.pcs.length), 1, 'one peer connection all along');
      const restarts = await ann.evaluate(() => new Set(window.plenumTest.pcs[0].localDescription.sdp.match(/a=ice-ufrag:\S+/g)).size);
      assert.equal(restarts, 1, 'no ICE restart was needed');
      for (const page of [ann, ben]) await seesAndHears(page, 1);
    });
  } finally {
    proxy.stop();
  }
});
