// Starts the release binary on ports of its own, with a config file and key of its own.
import { execFile, spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { makeCertificate } from './certificate.mjs';
import { SRV } from './natlab.mjs';
import { eventually } from './wait.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');
const TARGET = path.resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target');

/** The server under test; `PLENUM_BIN` names another one. */
export const BINARY = process.env.PLENUM_BIN ?? path.join(TARGET, 'release', 'plenum');

const KEY_ID = 'interop';
const SECRET = randomBytes(32).toString('hex');

/**
 * A production-like server: config file with an address, media ports and one key. `config` adds to its
 * sections or replaces what is there; `host` of a natlab is where it runs, here if there is none; with
 * `tls`, the addresses of a certificate, it speaks HTTPS.
 */
export async function startServer({ config: extra = {}, host, tls } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-interop-'));
  const config = path.join(folder, 'plenum.toml');
  const certificate = tls && makeCertificate(folder, tls);
  const sections = {
    http: {
      addr: `127.0.0.1:${extra.http?.addr ? 0 : await freePort()}`,
      ...(certificate && { tls_cert: certificate.cert, tls_key: certificate.key }),
      ...extra.http,
    },
    media: { udp_port: await freeUdpPort(), tcp_port: await freePort(), shards: 1, ...extra.media },
    'auth.keys': { [KEY_ID]: SECRET },
    broadcast: { rtmp_addr: '', ...extra.broadcast },
    ...Object.fromEntries(['turn', 'recording', 'rooms', 'limits', 'log'].filter((name) => extra[name]).map((name) => [name, extra[name]])),
  };
  fs.writeFileSync(config, toml(sections));
  const { addr, admin_addr: admin } = sections.http;
  const url = `${certificate ? 'https' : 'http'}://${addr.replace(/:443$/, '')}`;
  const ca = certificate && fs.readFileSync(certificate.cert);
  const start = () => run(folder, ['serve', '--config', config], { host, url, ca, metricsUrl: admin ? `http://${admin}` : url });
  const server = await start();
  const create = async (options) => {
    const { stdout } = await promisify(execFile)(BINARY, ['token', 'create', '--config', config, ...options]);
    return stdout.trim();
  };
  return {
    ...server,
    config,
    certificate,
    /** The API key, as ID:SECRET. */
    key: `${KEY_ID}:${SECRET}`,
    /** Ends it, as a deploy does, and starts it on the same ports. */
    async restart() {
      await this.end();
      Object.assign(this, await start());
    },
    /** A command of the operator about this server: what it prints, or rejects with. */
    async command(...options) {
      const { stdout } = await promisify(execFile)(BINARY, [...options.slice(0, 2), '--config', config, ...options.slice(2)]);
      return stdout.trim();
    },
    /** A token for `identity` in `room`; `options` are further flags of `plenum token create`. */
    token: (room, identity, ...options) =>
      create(['--room', room, '--identity', identity, '--ttl', '10m', ...options]),
    /**
     * The room API of `room`, for whom may moderate it unless `token` says who asks: `path` is what follows the
     * room's name. The answer's body is parsed.
     */
    async api(room, method, path, body, token) {
      const { video, ...moderator } = claims(room, 'moderator');
      const bearer = token ?? sign({ ...moderator, video: { ...video, roomAdmin: true } });
      const { status, headers, text } = await server.request(`/v1/rooms/${room}${path}`, {
        method,
        headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
        body: body && JSON.stringify(body),
      });
      return { status, headers, body: text && JSON.parse(text) };
    },
    /** A join link for `identity` in `room`. */
    link: (room, identity) =>
      create(['--room', room, '--identity', identity, '--ttl', '10m', '--url']),
  };
}

/**
 * A server with public addresses in `lab.srv`, TLS on 443 and everything on its usual ports; `turn` is that
 * section of its configuration.
 */
export function startPublicServer(lab, { turn, advertise = [SRV] } = {}) {
  return startServer({
    host: lab.srv,
    tls: [SRV],
    config: {
      http: { addr: `${SRV}:443`, admin_addr: `${SRV}:9100` },
      media: { udp_port: 7800, tcp_port: 7800, advertise },
      turn,
    },
  });
}

/** What a newcomer starts: `plenum serve --dev`. `link` is the join link it printed. */
export async function startDevServer() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-interop-'));
  const port = await freePort();
  const env = {
    PLENUM_HTTP__ADDR: `127.0.0.1:${port}`,
    PLENUM_MEDIA__UDP_PORT: String(await freeUdpPort()),
    PLENUM_MEDIA__TCP_PORT: String(await freePort()),
  };
  const url = `http://127.0.0.1:${port}`;
  const server = await run(folder, ['serve', '--dev'], { env, url, metricsUrl: url });
  const link = await eventually('a join link on a line of its own', () =>
    server.output().match(/^\s*(https?:\/\/\S+\/\?room=\S+&token=\S+)\s*$/m)?.[1]);
  return { ...server, link };
}

async function run(folder, args, { env = {}, host, url, ca, metricsUrl }) {
  const log = path.join(process.env.PLENUM_INTEROP_LOGS ?? folder, `${path.basename(folder)}.log`);
  const file = fs.openSync(log, 'a'); // a restarted server goes on in its log
  const [program, programArgs] = host ? host.command(BINARY, args) : [BINARY, args];
  const child = spawn(program, programArgs, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', file, file],
  });
  fs.closeSync(file);
  const output = () => fs.readFileSync(log, 'utf8');
  let ended = null;
  const killAtExit = () => child.kill('SIGKILL');
  process.on('exit', killAtExit);
  child.on('exit', (code, signal) => {
    ended = `${code ?? signal}`;
    process.off('exit', killAtExit);
  });
  child.on('error', (error) => (ended = error.message));
  await eventually('the server to be ready', async () => ended !== null || (await request(`${url}/readyz`, { ca })).status === 200, {
    timeoutMs: 15_000,
    everyMs: 50,
  });
  if (ended !== null) throw new Error(`the server ended (${ended}): ${output()}`);
  return {
    url,
    output,
    pid: child.pid,
    /** A request to the server itself: `path` with a method, headers and a body. */
    request: (path, options) => request(`${url}${path}`, { ca, ...options }),
    /** Fails when the server has ended or panicked on the way. */
    assertHealthy() {
      if (ended !== null) throw new Error(`the server ended (${ended}):\n${output().slice(-4000)}`);
      if (/panicked at/.test(output())) throw new Error(`a panic:\n${output().slice(-4000)}`);
    },
    /** A counter of the server, summed over its labels, or the one with `label`. */
    async metric(name, label) {
      const { text } = await request(`${metricsUrl}/metrics`, { ca });
      const labels = label ? `\\{${label}\\}` : '(?:\\{[^}]*\\})?';
      const values = [...text.matchAll(new RegExp(`^${name}${labels} (\\S+)$`, 'gm'))];
      if (!values.length) throw new Error(`no metric ${name} ${label ?? ''}`);
      return values.reduce((sum, [, value]) => sum + Number(value), 0);
    },
    /** Sends a signal. */
    signal: (name) => child.kill(name),
    async stop() {
      await this.end();
      fs.rmSync(folder, { recursive: true, force: true });
    },
    async end() {
      if (ended === null) {
        child.kill('SIGTERM');
        const killer = setTimeout(() => child.kill('SIGKILL'), 3000);
        await eventually('the server to stop', () => ended !== null, { everyMs: 50 });
        clearTimeout(killer);
      }
    },
  };
}

/** One HTTP exchange, with a server whose certificate is `ca` if it has one. */
async function request(url, { ca, method = 'GET', headers = {}, body } = {}) {
  const { request: send } = url.startsWith('https:') ? https : http;
  const sent = send(url, { ca, method, headers, agent: false, signal: AbortSignal.timeout(5000) });
  const responded = once(sent, 'response');
  sent.end(body);
  const [response] = await responded;
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode, headers: response.headers, text };
}

/** Sections of plain values, as TOML. */
function toml(sections) {
  const lines = ([key, value]) => `${key} = ${JSON.stringify(value)}\n`;
  return Object.entries(sections).map(([name, section]) =>
    `[${name}]\n${Object.entries(section).map(lines).join('')}`).join('');
}

/** Signs any claims with any header: for tokens that must be refused. */
export function sign(claims, { header = { alg: 'HS256', typ: 'JWT' }, secret = SECRET } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part(header)}.${part(claims)}`;
  const signature = header.alg === 'none' ? '' : createHmac('sha256', secret).update(text).digest('base64url');
  return `${text}.${signature}`;
}

/** Claims of a token that is fine; tests spoil one thing. */
export function claims(room, identity, ttlSeconds = 600) {
  const now = Math.floor(Date.now() / 1000);
  return { iss: KEY_ID, sub: identity, nbf: now - 3600, exp: now + ttlSeconds, video: { room, roomJoin: true } };
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function freeUdpPort() {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4').on('error', reject);
    socket.bind(0, () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}
