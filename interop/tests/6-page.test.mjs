// What the meeting and viewer pages promise the person in front of them: a Join button that waits
// for no device, taking part without any, choosing a quality, more pictures than a first offer has
// room for, watching.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { framesDecoded, join, launchChromium, pressJoin, seesAndHears, stats } from '../lib/browser.mjs';
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

/** Opens pages, gives `body` a function for more, closes them all. */
async function withPages(body) {
  const pages = [];
  const open = async (devices) => {
    const page = await chromium.page();
    pages.push(page);
    if (devices) await page.addInitScript(devices);
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

/** Runs in the page: a device prompt that nobody answers. */
const promptForever = () => {
  navigator.mediaDevices.getUserMedia = () => new Promise(() => {});
};

/** Runs in the page: a machine without camera and microphone. */
const noDevices = () => {
  navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('none', 'NotFoundError'));
  navigator.mediaDevices.enumerateDevices = () => Promise.resolve([]);
};

test('Join is there, and joins, while the device prompt is still open', { timeout: 60_000 }, () =>
  withPages(async (open) => {
    const ann = await open();
    await join(ann, await server.link('prompt', 'ann'));
    const ben = await open(promptForever);
    await ben.goto(await server.link('prompt', 'ben'), { waitUntil: 'load' });
    const names = await ben.getByRole('button', { name: /join/i }).allInnerTexts();
    assert.equal(names[0], 'Join', 'it exists as soon as the page has loaded');
    assert.ok(await ben.getByRole('button', { name: /join/i }).first().isEnabled());
    await pressJoin(ben);
    await seesAndHears(ben, 1, { own: 0 });
  }));

test('a machine without devices joins, says so, and is seen as a name', { timeout: 60_000 }, () =>
  withPages(async (open) => {
    const ann = await open();
    await join(ann, await server.link('bare', 'ann'));
    const ben = await open(noDevices);
    await ben.goto(await server.link('bare', 'ben'));
    await ben.getByText(/camera and microphone are not found/i).first().waitFor();
    await pressJoin(ben);
    await seesAndHears(ben, 1, { own: 0 });
    await ann.getByRole('article', { name: /^ben, camera off/i }).waitFor();
  }));

test('a quality chosen in the tile menu is what arrives', { timeout: 90_000 }, () =>
  withPages(async (open) => {
    const ann = await open();
    const ben = await open();
    await join(ann, await server.link('layers', 'ann'));
    await join(ben, await server.link('layers', 'ben'));
    await seesAndHears(ann, 1);
    for (const [quality, width] of [[/quality: low/i, 320], [/quality: medium/i, 640], [/quality: low/i, 320]]) {
      await eventually(`${quality} to be live and chosen`, async () => {
        await ann.getByRole('button', { name: 'Options for ben' }).click();
        const item = ann.getByRole('menuitemradio', { name: quality });
        const text = await item.innerText();
        if (!/bit\/s/.test(text)) await ann.keyboard.press('Escape');
        else await item.click();
        return { ok: /bit\/s/.test(text), text };
      }, { everyMs: 1000 });
      await eventually(`pictures ${width} wide`, async () => {
        const seen = (await stats(ann)).inbound.filter((s) => s.kind === 'video').map((s) => s.width);
        return { ok: seen.includes(width), seen };
      });
    }
  }));

test('nine pictures in one room all move', { timeout: 90_000 }, () =>
  withPages(async (open) => {
    const others = 8; // more than the slots of a first offer
    const raw = await chromium.rawPage(server.url, { codec: 'VP8' });
    try {
      const ann = await open();
      await join(ann, await server.link('many', 'ann'));
      const tokens = await Promise.all(Array.from({ length: others }, (_, i) => server.token('many', `p${i}`)));
      await raw.evaluate(async ([url, jwts]) => {
        const stream = await window.fakeMedia({ width: 160, height: 90, fps: 5, audio: false });
        for (const jwt of jwts) {
          const client = new window.RawClient({ audioSlots: 0, videoSlots: 0 });
          client.addTrack(stream.getVideoTracks()[0].clone(), { source: 'camera', width: 160, height: 90 });
          await client.join(url, jwt, { autoSubscribe: false });
        }
      }, [server.url, tokens]);
      await eventually(`${others + 1} moving pictures`, async () => {
        const earlier = await ann.evaluate(() => window.plenumTest.pictures());
        await sleep(1500);
        const later = await ann.evaluate(() => window.plenumTest.pictures());
        const changing = later.filter((hash, i) => hash !== earlier[i]).length;
        return { ok: changing === others + 1, changing, pictures: later.length };
      }, { timeoutMs: 40_000 });
      assert.equal(await ann.getByRole('article').count(), others + 1);
    } finally {
      await raw.close();
    }
  }));

test('the viewer page waits for a publisher, shows it, and tells when it is gone', { timeout: 60_000 }, () =>
  withPages(async (open) => {
    const viewer = await open();
    const bad = [];
    // That no broadcast runs is said by a 404.
    const isBad = (response) => response.status() >= 400 && !response.url().includes('/live/');
    viewer.on('response', (response) => isBad(response) && bad.push(`${response.status()} ${response.url()}`));
    const state = viewer.getByRole('status');
    await viewer.goto(`${server.url}/watch/air?token=${await server.token('air', 'viewer', '--subscribe')}`);
    assert.ok(!viewer.url().includes('token='));
    await viewer.getByRole('button', { name: /watch/i }).click();
    await state.getByText(/nobody is on the air/i).waitFor();
    const ann = await open();
    await join(ann, await server.link('air', 'ann'));
    await state.getByText(/^Live/).waitFor();
    await seesAndHears(viewer, 1, { own: 0 });
    await ann.getByRole('button', { name: /leave/i }).click();
    await state.getByText(/nobody is on the air/i).waitFor();
    const frames = await framesDecoded(viewer);
    assert.ok(frames > 10, `${frames} frames`);
    await viewer.getByRole('button', { name: /stop/i }).click();
    await sleep(500);
    assert.deepEqual(bad, [], 'the session was there to be deleted');
  }));
