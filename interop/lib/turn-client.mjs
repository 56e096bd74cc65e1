// The smallest TURN client over UDP (RFC 8489, RFC 8656), for tests that ask for what no honest client does.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const COOKIE = Buffer.from('2112a442', 'hex');
const HEADER_BYTES = 20;
const METHOD = { allocate: 0x003, refresh: 0x004, send: 0x006, createPermission: 0x008, channelBind: 0x009 };
const INDICATION = 0x010;
const SUCCESS = 0x100;
const ATTRIBUTE = {
  username: 0x0006, integrity: 0x0008, error: 0x0009, channel: 0x000c, lifetime: 0x000d, peer: 0x0012, data: 0x0013,
  realm: 0x0014, nonce: 0x0015, relayed: 0x0016, family: 0x0017, transport: 0x0019,
};
const UDP = Buffer.from([17, 0, 0, 0]);
const RETRANSMIT_MS = 500;
const GIVE_UP_MS = 5000;

/** A credential as other applications mint it (mode "relay"), good for `seconds` from now. */
export function mint(secret, name, seconds = 600) {
  const username = `${Math.floor(Date.now() / 1000) + seconds}:${name}`;
  return { username, password: createHmac('sha1', secret).update(username).digest('base64') };
}

/** Opens a client of the server at `address`:`port`; `credential` has `username` and `password`. */
export async function openTurnClient(address, port, credential) {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.connect(port, address);
  await once(socket, 'connect');
  const waiting = new Map(); // transaction id -> what to do with the response
  const received = [];
  let challenge = {};
  socket.on('message', (bytes) => {
    const message = parse(bytes);
    if (message.isData) received.push(message);
    else waiting.get(message.id)?.(message);
  });
  socket.on('error', () => {}); // a port that is closed; requests give up by themselves

  const exchange = (method, attributes) => new Promise((resolve, reject) => {
    const id = randomBytes(12);
    const key = challenge.nonce && createHash('md5').update(`${credential.username}:${challenge.realm}:${credential.password}`).digest();
    const bytes = build(METHOD[method], id, attributes(id), key && { ...challenge, username: credential.username, key });
    const again = setInterval(() => socket.send(bytes), RETRANSMIT_MS);
    const end = (settle, value) => {
      clearInterval(again);
      clearTimeout(limit);
      waiting.delete(id.toString('hex'));
      settle(value);
    };
    const limit = setTimeout(() => end(reject, new Error(`no answer to ${method}`)), GIVE_UP_MS);
    waiting.set(id.toString('hex'), (message) => {
      const isProven = !key || !message.isSuccess || message.verify(key);
      end(isProven ? resolve : reject, isProven ? message : new Error(`${method}: the answer's integrity is wrong`));
    });
    socket.send(bytes);
  });

  /** Sends a request with what the server asks for first; resolves with the response, whose `code` is 0 or an error. */
  const request = async (method, attributes) => {
    let response = await exchange(method, attributes);
    const isChallenge = (response.code === 401 && !challenge.nonce) || response.code === 438;
    if (isChallenge) {
      challenge = { realm: response.text(ATTRIBUTE.realm), nonce: response.text(ATTRIBUTE.nonce) };
      response = await exchange(method, attributes);
    }
    return response;
  };
  return {
    received,
    /** Asks for a relayed address of the family 4 or 6; the response has it as `relayed`. */
    allocate: ({ family } = {}) => request('allocate', () => [
      [ATTRIBUTE.transport, UDP],
      ...(family ? [[ATTRIBUTE.family, Buffer.from([family === 6 ? 2 : 1, 0, 0, 0])]] : []),
    ]),
    refresh: (seconds) => request('refresh', () => [[ATTRIBUTE.lifetime, u32(seconds)]]),
    permit: (peer) => request('createPermission', (id) => [[ATTRIBUTE.peer, xorAddress(peer, 0, id)]]),
    bindChannel: (channel, peer, peerPort) => request('channelBind', (id) => [
      [ATTRIBUTE.channel, u32(channel << 16 >>> 0)],
      [ATTRIBUTE.peer, xorAddress(peer, peerPort, id)],
    ]),
    /** A Send indication; nothing answers it. */
    send(peer, peerPort, data) {
      const id = randomBytes(12);
      const attributes = [[ATTRIBUTE.peer, xorAddress(peer, peerPort, id)], [ATTRIBUTE.data, Buffer.from(data)]];
      socket.send(build(METHOD.send | INDICATION, id, attributes));
    },
    /** ChannelData (RFC 8656 §12.4). */
    sendOnChannel(channel, data) {
      socket.send(Buffer.concat([u32(channel * 0x10000 + data.length), Buffer.from(data)]));
    },
    close: () => socket.close(),
  };
}

function build(type, id, attributes, proof) {
  const parts = attributes.map(([kind, value]) => attribute(kind, value));
  const message = (extra) => {
    const body = Buffer.concat(parts);
    return Buffer.concat([u32(type * 0x10000 + body.length + extra), COOKIE, id, body]);
  };
  if (!proof) return message(0);
  for (const name of ['username', 'realm', 'nonce']) parts.push(attribute(ATTRIBUTE[name], Buffer.from(proof[name])));
  // The length covers the attribute that the digest goes into (RFC 8489 §14.5).
  parts.push(attribute(ATTRIBUTE.integrity, createHmac('sha1', proof.key).update(message(24)).digest()));
  return message(0);
}

function attribute(kind, value) {
  return Buffer.concat([u32(kind * 0x10000 + value.length), value, Buffer.alloc(-value.length & 3)]);
}

function parse(bytes) {
  const first = bytes.readUInt16BE(0);
  if (first >= 0x4000) return { isData: true, channel: first, data: bytes.subarray(4, 4 + bytes.readUInt16BE(2)) };
  const id = bytes.subarray(8, HEADER_BYTES);
  const attributes = new Map();
  for (let at = HEADER_BYTES; at + 4 <= bytes.length;) {
    const [kind, length] = [bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2)];
    attributes.set(kind, { at, value: bytes.subarray(at + 4, at + 4 + length) });
    at += 4 + length + (-length & 3);
  }
  const value = (kind) => attributes.get(kind)?.value;
  const error = value(ATTRIBUTE.error);
  return {
    id: id.toString('hex'),
    isData: (first & 0x110) === INDICATION,
    isSuccess: (first & 0x110) === SUCCESS,
    code: error ? error[2] * 100 + error[3] : 0,
    text: (kind) => value(kind)?.toString() ?? '',
    data: value(ATTRIBUTE.data),
    lifetime: value(ATTRIBUTE.lifetime)?.readUInt32BE(0),
    relayed: value(ATTRIBUTE.relayed) && plainAddress(value(ATTRIBUTE.relayed), id),
    verify(key) {
      const { at, value: digest } = attributes.get(ATTRIBUTE.integrity) ?? {};
      if (!digest) return false;
      const covered = Buffer.from(bytes.subarray(0, at));
      covered.writeUInt16BE(at + 24 - HEADER_BYTES, 2);
      return createHmac('sha1', key).update(covered).digest().equals(digest);
    },
  };
}

/** XOR-PEER-ADDRESS (RFC 8489 §14.2). */
function xorAddress(address, port, id) {
  const bytes = addressBytes(address);
  const mask = Buffer.concat([COOKIE, id]);
  return Buffer.concat([Buffer.from([0, bytes.length === 16 ? 2 : 1]), u16(port ^ 0x2112), bytes.map((byte, i) => byte ^ mask[i])]);
}

function plainAddress(value, id) {
  const mask = Buffer.concat([COOKIE, id]);
  const bytes = [...value.subarray(4)].map((byte, i) => byte ^ mask[i]);
  const address = bytes.length === 4
    ? bytes.join('.')
    : Array.from({ length: 8 }, (_, i) => (bytes[2 * i] * 256 + bytes[2 * i + 1]).toString(16)).join(':');
  return { address, port: value.readUInt16BE(2) ^ 0x2112 };
}

/** The 4 or 16 bytes of an address as text; IPv6 may end in IPv4. */
function addressBytes(text) {
  const [, before, v4] = /^(.*?)(\d+\.\d+\.\d+\.\d+)?$/.exec(text);
  const tail = v4 ? v4.split('.').map(Number) : [];
  if (!text.includes(':')) return Buffer.from(tail);
  const bytes = (part) => part.split(':').filter(Boolean).flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]);
  const [left, right = ''] = before.split('::');
  const [head, rest] = [bytes(left), [...bytes(right), ...tail]];
  return Buffer.from([...head, ...Array(16 - head.length - rest.length).fill(0), ...rest]);
}

function u16(value) {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
