// Firefox and Chromium meet. Firefox refuses a server that is only on 127.0.0.1, so this also proves
// that the other addresses of the machine are offered.
import { after, before, test } from 'node:test';
import { join, launchChromium, launchFirefox, seesAndHears } from '../lib/browser.mjs';
import { startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

let server;
let chromium;
let firefox;
before(async () => {
  server = await startServer();
  chromium = await launchChromium();
  firefox = await launchFirefox();
});
after(async () => {
  await firefox?.close();
  await chromium?.close();
  await server?.stop();
});

test('Firefox and Chromium see and hear each other', { timeout: 100_000 }, async () => {
  const [ann, ben] = [await chromium.page({ codec: 'VP8' }), await firefox.page({ codec: 'VP8' })];
  await join(ann, await server.link('browsers', 'ann'));
  await join(ben, await server.link('browsers', 'ben'));
  await seesAndHears(ann, 1, { codec: 'VP8', timeoutMs: 40_000 });
  await seesAndHears(ben, 1, { codec: 'VP8', timeoutMs: 40_000 });
  // Firefox decodes packets that were padded to the length of the others of their frame.
  await eventually('padded packets', async () => (await server.metric('plenum_rtp_padded_packets_total')) > 100);
  await seesAndHears(ben, 1, { codec: 'VP8', timeoutMs: 40_000 });
  server.assertHealthy();
});
