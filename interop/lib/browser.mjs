// Debian's Chromium and Firefox with fake cameras, and what a test asks of their pages.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { atMost, eventually, sleep } from './wait.mjs';

const HOOKS = fs.readFileSync(new URL('./page-hooks.js', import.meta.url), 'utf8');
const SDK = new URL('../../sdk/dist/plenum.umd.cjs', import.meta.url);
const RAW_CLIENT = fs.readFileSync(new URL('./raw-client.js', import.meta.url), 'utf8');

const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update',
  '--disable-features=Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider',
  '--autoplay-policy=no-user-gesture-required',
  // Pages in the background keep their timers, encoders and rendering at full speed.
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
  '--use-fake-device-for-media-stream=device-count=1,fps=15', '--use-fake-ui-for-media-stream',
];

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** One Chromium with an empty profile, inside `host` of a natlab if given; `page(options)` opens pages in it. */
export async function launchChromium({ flags = [], host } = {}) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: host?.wrapper(CHROMIUM) ?? CHROMIUM,
    headless: true,
    viewport: { width: 1280, height: 720 },
    args: [...CHROMIUM_FLAGS, ...flags],
  });
  context.setDefaultTimeout(15_000);
  return {
    /** A page with the hooks of page-hooks.js, whose head names the options. */
    async page(options = {}) {
      const page = await context.newPage();
      await page.addInitScript(`window.plenumTestOptions = ${JSON.stringify(options)};\n${HOOKS}`);
      page.errors = [];
      page.on('pageerror', (error) => page.errors.push(error.message));
      return page;
    },
    /** A page of the server's origin without the meeting page's scripts, with raw-client.js in it. */
    async rawPage(url, options = {}) {
      const page = await this.page(options);
      await page.goto(`${url}/healthz`);
      await page.addScriptTag({ content: RAW_CLIENT });
      return page;
    },
    /** As `rawPage`, with the JavaScript SDK in it too, as `window.Plenum`. */
    async sdkPage(url, options) {
      const page = await this.rawPage(url, options);
      await page.addScriptTag({ content: fs.readFileSync(SDK, 'utf8') });
      return page;
    },
    /** Cuts every page off the network, or lets it back; what runs over UDP goes on in Chromium. */
    offline: (isOff) => context.setOffline(isOff),
    async close() {
      await atMost(5000, context.close());
      fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** One Firefox, driven by WebDriver BiDi; `page(options)` as above. */
export async function launchFirefox() {
  const nowhere = 'http://127.0.0.1:9/';
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      // OpenH264 would be a download, as would everything below.
      'media.gmp-manager.updateEnabled': false,
      'media.gmp-manager.url': nowhere,
      'app.update.enabled': false,
      'extensions.update.enabled': false,
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
      'browser.safebrowsing.malware.enabled': false,
      'browser.safebrowsing.phishing.enabled': false,
      'datareporting.policy.dataSubmissionEnabled': false,
      'services.settings.server': nowhere,
      'toolkit.telemetry.server': nowhere,
    },
  });
  return {
    async page(options = {}) {
      const page = await browser.newPage();
      await page.evaluateOnNewDocument(`window.plenumTestOptions = ${JSON.stringify(options)};\n${HOOKS}`);
      return page;
    },
    async close() {
      await atMost(5000, browser.close());
      browser.process()?.kill('SIGKILL');
    },
  };
}

/** Opens a join link and presses the first button whose name contains "join". */
export async function join(page, link) {
  await page.goto(link);
  await pressJoin(page);
}

export async function pressJoin(page) {
  if (page.getByRole) return page.getByRole('button', { name: /join/i }).first().click();
  // Puppeteer has no roles and names over BiDi.
  return eventually('a button that joins', () => page.evaluate(() => {
    const name = (button) => button.getAttribute('aria-label') ?? button.textContent;
    const button = [...document.querySelectorAll('button')].find((b) => /join/i.test(name(b)));
    button?.click();
    return Boolean(button);
  }));
}

/**
 * Opens a join link, presses Join, and resolves with the milliseconds from there to the first picture of
 * somebody else. The page must have been opened with `timeFirstFrame`.
 */
export async function timedJoin(page, link) {
  await page.goto(link);
  await page.getByRole('button', { name: /join/i }).first().waitFor();
  await page.evaluate(() => {
    addEventListener('click', () => (window.plenumTest.pressedAt ??= performance.now()), { capture: true });
  });
  await pressJoin(page);
  return eventually('a first frame in the meeting page', () =>
    page.evaluate(() => window.plenumTest.firstFrameAt && window.plenumTest.firstFrameAt - window.plenumTest.pressedAt));
}

/** What the page receives and sends now; see `plenumTest.stats`. */
export const stats = (page) => page.evaluate(() => window.plenumTest.stats());

/**
 * Waits until the page sees `others` moving pictures besides its own and hears at least one voice:
 * decoded frames and audio energy grow, and the pixels of that many `<video>` elements change.
 */
export async function seesAndHears(page, others, { codec, timeoutMs = 25_000, own = 1 } = {}) {
  const who = `${others} other(s) seen and heard`;
  await eventually(who, async () => {
    const before = await stats(page);
    const pictures = await page.evaluate(() => window.plenumTest.pictures());
    await sleep(1200);
    const after = await stats(page);
    const later = await page.evaluate(() => window.plenumTest.pictures());
    const grown = (field, kind) => after.inbound.filter((stream) => {
      const earlier = before.inbound.find((s) => s.ssrc === stream.ssrc && s.mid === stream.mid);
      return stream.kind === kind && stream[field] > (earlier?.[field] ?? 0);
    });
    const seen = {
      moving: grown('frames', 'video').filter((s) => !codec || s.codec === codec).length,
      heard: grown('energy', 'audio').length,
      changing: later.filter((hash, i) => hash !== pictures[i]).length,
      codecs: after.inbound.filter((s) => s.kind === 'video').map((s) => s.codec),
      states: after.states,
    };
    // Loopback-fake microphones beep once a second: one voice a sample proves the audio path.
    return { ok: seen.moving >= others && seen.heard >= 1 && seen.changing >= others + own, ...seen };
  }, { timeoutMs, everyMs: 100 });
}

/** Opens a page that publishes picture and sound by WHIP until it is closed. */
export async function publishPage(chromium, server, room, identity) {
  const page = await chromium.rawPage(server.url, { codec: 'VP8' });
  const token = await server.token(room, identity);
  await page.evaluate(([url, jwt]) => window.whip(url, jwt, {}), [`${server.url}/whip/${room}`, token]);
  await eventually('the publisher to send', async () =>
    (await stats(page)).outbound.some((s) => s.kind === 'video' && s.frames > 15));
  return page;
}

/** Decoded video frames of the page so far, over all streams. */
export async function framesDecoded(page) {
  const { inbound } = await stats(page);
  return inbound.filter((s) => s.kind === 'video').reduce((sum, s) => sum + s.frames, 0);
}
