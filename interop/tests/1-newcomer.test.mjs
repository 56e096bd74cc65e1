// What a newcomer does first: `plenum serve --dev`, and the printed link in two windows.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { join, launchChromium, pressJoin, seesAndHears, stats } from '../lib/browser.mjs';
import { claims, sign, startDevServer, startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

let chromium;
before(async () => (chromium = await launchChromium()));
after(() => chromium?.close());

test('one printed link brings two windows together, and a reload brings them back', { timeout: 90_000 }, async () => {
  const server = await startDevServer();
  const pages = [await chromium.page(), await chromium.page()];
  try {
    for (const page of pages) await join(page, server.link);
    for (const page of pages) await seesAndHears(page, 1);
    for (const page of pages) {
      assert.ok(!page.url().includes('token='), `the token left the address bar: ${page.url()}`);
      assert.deepEqual(page.errors, []);
    }
    assert.ok(!server.output().includes('token=') || !/GET.*token=/.test(server.output()), 'no query string is logged');

    await pages[1].reload();
    await pressJoin(pages[1]);
    for (const page of pages) await seesAndHears(page, 1);
    server.assertHealthy();
  } finally {
    for (const page of pages) await page.close();
    await server.stop();
  }
});

test('a token that is no good gives a clear message and disturbs nobody', { timeout: 90_000 }, async () => {
  const server = await startServer();
  const pages = [];
  const open = async (link) => {
    const page = await chromium.page();
    pages.push(page);
    await join(page, link);
    return page;
  };
  try {
    await open(await server.link('quiet', 'ann'));
    await open(await server.link('quiet', 'ben'));
    await seesAndHears(pages[0], 1);
    const framesBefore = (await stats(pages[0])).inbound;

    const link = (token) => `${server.url}/?room=quiet&token=${token}`;
    const expired = claims('quiet', 'eve', -3600);
    const bad = [
      [sign(expired), /expired/i],
      [sign(claims('quiet', 'eve'), { header: { alg: 'none', typ: 'JWT' } }), /token|not (valid|allowed|accepted)|unauthori[sz]ed/i],
      [sign(claims('quiet', 'eve'), { secret: 'x'.repeat(32) }), /token|not (valid|allowed|accepted)|unauthori[sz]ed/i],
      [sign(claims('elsewhere', 'eve')), /room|token|not (valid|allowed|accepted)|forbidden/i],
      ['no-token-at-all', /token|not (valid|allowed|accepted)|unauthori[sz]ed/i],
    ];
    for (const [token, message] of bad) {
      const page = await open(link(token));
      await eventually(`a message like ${message}`, async () => {
        const alert = page.locator('[role=alert], [role=alertdialog], [aria-live]');
        const texts = (await alert.allInnerTexts()).join(' ').trim();
        return { ok: message.test(texts), texts };
      }, { timeoutMs: 10_000 });
      await pages.pop().close();
    }

    await seesAndHears(pages[0], 1);
    assert.ok(framesBefore.length > 0);
    server.assertHealthy();
  } finally {
    for (const page of pages) await page.close();
    await server.stop();
  }
});
