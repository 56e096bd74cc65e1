// What tells whether clients get through: the connection test for the person in front of a page, and
// `plenum doctor` for the operator.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium } from '../lib/browser.mjs';
import { startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

let server;
before(async () => {
  server = await startServer();
});
after(() => server?.stop());

/** Opens the page with a browser of its own, waits until everything was tried, gives `body` what it shows. */
async function withTest(flags, open, body) {
  const chromium = await launchChromium({ flags });
  try {
    const page = await chromium.page();
    await open(page);
    await page.locator('.way').first().waitFor();
    // A way that is blocked is given up after eight seconds.
    await eventually('everything to be tried', () => page.evaluate(() => !document.querySelector('.way[data-state=waiting]')));
    const states = await page.evaluate(() =>
      Object.fromEntries([...document.querySelectorAll('.way')].map(({ dataset }) => [dataset.way, dataset.state])));
    await body(page, states);
    assert.deepEqual(page.errors, []);
    server.assertHealthy();
  } finally {
    await chromium.close();
  }
}

test('the connection test tries every way, and nobody in the meeting notices', { timeout: 60_000 }, () =>
  withTest([], async (page) => {
    await page.goto(await server.link('daily', 'ann'));
    await page.getByRole('link', { name: 'Connection trouble?' }).click();
  }, async (page, states) => {
    assert.deepEqual(states, {
      signal: 'works', udp: 'works', turnUdp: 'works', tcp: 'works', turnTcp: 'works', turnTls: 'absent',
    });
    await page.getByText('Your connection is fine').waitFor();
    assert.doesNotMatch(page.url(), /token/);
    // The ways were really taken, and are left again.
    await eventually('both relays to have been used', async () => {
      const allocated = await server.metric('plenum_turn_allocated_total');
      return { ok: allocated >= 2, allocated };
    });
    await eventually('everybody to have left', async () => {
      const rooms = JSON.parse(await server.command('rooms', 'ls', '--json'));
      const seen = rooms.map(({ name, participants }) => [name, participants]);
      return { ok: seen.every(([name, count]) => name.startsWith('test-') && count === 0), seen };
    });
    await page.getByRole('link', { name: 'Back to the meeting' }).click();
    await page.getByRole('button', { name: 'Join' }).waitFor();
  }));

test('a network without UDP is told from one that blocks everything', { timeout: 60_000 }, () =>
  withTest(['--webrtc-ip-handling-policy=disable_non_proxied_udp'], async (page) => {
    await page.goto((await server.link('daily', 'ben')).replace('/?', '/connectivity?'));
  }, async (page, states) => {
    assert.deepEqual(states, {
      signal: 'works', udp: 'fails', turnUdp: 'fails', tcp: 'works', turnTcp: 'works', turnTls: 'absent',
    });
    await page.getByText('Meetings work, but may look worse').waitFor();
    await page.getByText(/Ask whoever runs it to open UDP port \d+ of /).waitFor();
    assert.doesNotMatch(page.url(), /token/);
  }));

test('plenum doctor proves every way', { timeout: 60_000 }, async () => {
  const { checks, fail } = JSON.parse(await server.command('doctor', '--json'));
  assert.equal(fail, 0, JSON.stringify(checks));
  for (const kind of ['server', 'WebSocket', 'UDP', 'TCP', 'TURN/UDP', 'TURN/TCP', 'clock', 'open files']) {
    const found = checks.filter(({ what }) => what === kind || what.startsWith(`${kind} `));
    assert.ok(found.length > 0, kind);
    if (kind !== 'open files') assert.ok(found.every(({ status }) => status === 'ok'), JSON.stringify(found));
  }
  const nowhere = server.command('doctor', '--json', '--url', 'http://127.0.0.1:9');
  await assert.rejects(nowhere, ({ code, stdout }) => code === 1 && JSON.parse(stdout).fail === 1);
});
