// GStreamer's webrtcbin publishes over ICE-TCP alone: libnice, an ICE agent that shares nothing with the
// browsers', connects to the server's passive candidate. Skipped where GStreamer is not installed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium, stats } from '../lib/browser.mjs';
import { hasGstreamer, publishByGstreamer } from '../lib/programs.mjs';
import { startServer } from '../lib/server.mjs';
import { eventually } from '../lib/wait.mjs';

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

test('GStreamer publishes over ICE-TCP, Chromium watches', { timeout: 60_000 }, async (context) => {
  if (!hasGstreamer()) return context.skip('no GStreamer with its Python modules');
  const publisher = publishByGstreamer(`${server.url}/whip/tcp`, await server.token('tcp', 'gst'), { seconds: 15 });
  const page = await chromium.rawPage(server.url);
  try {
    await page.evaluate(([url, jwt]) => window.whep(url, jwt), [`${server.url}/whep/tcp`, await server.token('tcp', 'viewer')]);
    await eventually('pictures and sound', async () => {
      const { inbound } = await stats(page);
      const of = (kind) => inbound.find((stream) => stream.kind === kind);
      return { ok: of('video')?.frames > 60 && of('audio')?.energy > 0, inbound, publisher: publisher.output().slice(-500) };
    }, { timeoutMs: 30_000 });
    const { stdout, stderr } = await publisher.ended;
    assert.equal(JSON.parse(stdout || JSON.stringify({ stderr })).state, 'connected');
    server.assertHealthy();
  } finally {
    await publisher.stop();
    await page.close();
  }
});
