// What an operator does and sees: rooms and participants by command line, keys read again, and what is
// said when the server cannot start.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { join, launchChromium, seesAndHears } from '../lib/browser.mjs';
import { BINARY, claims, sign, startServer } from '../lib/server.mjs';
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

test('rooms and participants are listed, muted, removed and ended', { timeout: 90_000 }, async () => {
  const [ann, ben] = [await chromium.page(), await chromium.page()];
  try {
    await join(ann, await server.link('office', 'ann'));
    await join(ben, await server.link('office', 'ben'));
    await seesAndHears(ben, 1);
    assert.match(await server.command('rooms', 'ls'), /^office\s+2 participants$/);
    assert.equal(JSON.parse(await server.command('rooms', 'show', 'office')).publishers, 2);
    const participants = await server.command('participants', 'ls', 'office');
    assert.match(participants, /^ann\s.*2 tracks\nben\s.*2 tracks$/);

    // Its page shows that it is muted, and unmutes when the person wants to.
    const tracks = JSON.parse(await server.command('participants', 'ls', 'office', '--json'))[0].tracks;
    const microphone = tracks.find(({ source }) => source === 'microphone').id;
    await server.command('participants', 'mute', 'office', 'ann', '--track', microphone);
    await ann.getByText(/microphone was muted/i).first().waitFor();
    await ben.getByRole('article', { name: /^ann, muted/i }).waitFor();
    await ann.getByRole('button', { name: /^unmute microphone/i }).click();
    await ben.getByRole('article', { name: /^ann$/i }).waitFor();
    await server.command('participants', 'mute', 'office', 'ann');
    await ben.getByRole('article', { name: /^ann, camera off, muted/i }).waitFor();
    await server.command('participants', 'mute', 'office', 'ann', '--off');
    await eventually('the page to stay muted: nobody else turns a camera on', async () => {
      const [one] = JSON.parse(await server.command('participants', 'ls', 'office', '--json'));
      return { ok: one.tracks.every(({ muted }) => muted), tracks: one.tracks };
    });

    await server.command('participants', 'kick', 'office', 'ann');
    await ann.getByRole('heading', { name: /removed/i }).waitFor();
    await assert.rejects(server.command('participants', 'kick', 'office', 'ann'), /no such participant/);
    await server.command('rooms', 'rm', 'office');
    await ben.getByRole('heading', { name: /closed|ended/i }).waitFor();
    assert.equal(await server.command('rooms', 'ls'), '');
    server.assertHealthy();
  } finally {
    await ann.close();
    await ben.close();
  }
});

test('SIGHUP reads the keys again, a broken file changes nothing, and meetings go on', { timeout: 60_000 }, async () => {
  const text = fs.readFileSync(server.config, 'utf8');
  const secret = 'y'.repeat(32);
  const status = async (token) =>
    (await fetch(`${server.url}/v1/rooms/none`, { headers: { authorization: `Bearer ${token}` } })).status;
  const reload = async (written, line) => {
    const before = server.output().length;
    fs.writeFileSync(server.config, written);
    server.signal('SIGHUP');
    await eventually(`${line} in the log`, () => line.test(server.output().slice(before)));
  };
  const page = await chromium.page();
  try {
    await join(page, await server.link('keys', 'ann'));
    await page.getByRole('article').first().waitFor();
    const fresh = sign({ ...claims('r', 'x'), iss: 'fresh' }, { secret });
    assert.equal(await status(fresh), 401);
    await reload(text.replace('[auth.keys]', `[auth.keys]\nfresh = "${secret}"`), /keys read again/);
    assert.equal(await status(fresh), 403, 'known now, though it may not see rooms');
    await reload(text.replace('addr', 'adr'), /http\.adr/);
    assert.equal(await status(fresh), 403);
    await reload(text.replace(/\[auth\.keys\][^[]*/, ''), /no API keys/);
    assert.equal(await status(fresh), 403);
    await reload(text, /keys read again/);
    assert.equal(await status(fresh), 401);
    await page.getByRole('button', { name: /leave/i }).waitFor();
    server.assertHealthy();
  } finally {
    fs.writeFileSync(server.config, text);
    await page.close();
  }
});

test('a server that cannot start says what to do', { timeout: 60_000 }, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-interop-'));
  const key = `[auth.keys]\napp = "${'k'.repeat(32)}"\n`;
  const free = '[http]\naddr = "127.0.0.1:0"\n[media]\nudp_port = 0\ntcp_port = 0\n';
  const taken = net.createServer();
  await new Promise((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address();
  const serve = (config, env = {}) => {
    const file = path.join(folder, 'plenum.toml');
    fs.writeFileSync(file, config);
    const { status, stderr } = spawnSync(BINARY, ['serve', '--config', file], {
      env: { PATH: process.env.PATH, ...env }, encoding: 'utf8', timeout: 10_000,
    });
    return { status, stderr };
  };
  const cases = [
    ['no keys', free, {}, /no API key.*\[auth\.keys\].*openssl rand.*serve --dev/s],
    ['a short secret', `${free}[auth.keys]\napp = "short"\n`, {}, /auth\.keys\.app: .*32 bytes.*openssl/],
    ['an unknown key', `${free}[rooms]\ncolour = 1\n${key}`, {}, /rooms\.colour \(in .*plenum\.toml\): there is no such option/],
    ['an unknown variable', free + key, { PLENUM_ROOMS__COLOUR: '1' }, /rooms\.colour \(in PLENUM_ROOMS__COLOUR\): there is no such option/],
    ['a value of the wrong type', `${free}[rooms]\nparticipants_max = "many"\n${key}`, {}, /rooms\.participants_max \(in .*\): .*"many", expected u32/],
    ['a busy port', `[http]\naddr = "127.0.0.1:${port}"\n[media]\nudp_port = 0\ntcp_port = 0\n${key}`, {}, new RegExp(`127\\.0\\.0\\.1:${port} \\(http\\.addr\\): .*in use`)],
    ['a busy media port', `[http]\naddr = "127.0.0.1:0"\n[media]\nudp_port = 0\ntcp_port = ${port}\n${key}`, {}, new RegExp(`tcp_port.*in use|in use.*tcp_port|${port}.*in use`)],
    ['no TOML', 'http = [', {}, /plenum\.toml.*TOML/],
  ];
  try {
    for (const [name, config, env, message] of cases) {
      const { status, stderr } = serve(config, env);
      assert.equal(status, 1, `${name}: ${stderr}`);
      assert.match(stderr, message, name);
      assert.ok(!/(in use).*\1/.test(stderr), `said once: ${stderr}`);
      assert.ok(!/panicked|RUST_BACKTRACE/.test(stderr), `${name}: ${stderr}`);
    }
    const missing = spawnSync(BINARY, ['serve', '--config', '/nonexistent.toml'], { encoding: 'utf8' });
    assert.match(missing.stderr, /cannot read \/nonexistent\.toml/);
  } finally {
    taken.close();
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
