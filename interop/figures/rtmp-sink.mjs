// Where a broadcast is pushed to: takes one RTMP publisher and keeps every message with the time it came at.
// Only what a push needs of the protocol: simple handshake, chunks, and three commands.
import net from 'node:net';
import { now } from './listener.mjs';

const [AUDIO, VIDEO] = [8, 9];

/** Listens on a free port of loopback. `messages`: { type, timestamp, payload, at }, `at` in ms since 1970. */
export async function startSink() {
  const messages = [];
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    const session = new Session(socket, messages);
    socket.on('data', (bytes) => session.take(bytes));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `rtmp://127.0.0.1:${server.address().port}/live`,
    messages,
    stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

class Session {
  #socket;
  #messages;
  #bytes = Buffer.alloc(0);
  #isGreeted = 0;
  #chunkSize = 128;
  #streams = new Map(); // chunk stream id -> its last header, and the message it is in

  constructor(socket, messages) {
    this.#socket = socket;
    this.#messages = messages;
  }

  take(bytes) {
    const at = now();
    this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, bytes]) : bytes;
    while (this.#greet() || (this.#isGreeted === 2 && this.#chunk(at)));
  }

  /** C0, C1 and C2; S2 is C1 come back. */
  #greet() {
    if (this.#isGreeted === 0 && this.#bytes.length >= 1537) {
      this.#socket.write(Buffer.concat([Buffer.from([3]), Buffer.alloc(1536), this.#bytes.subarray(1, 1537)]));
      this.#bytes = this.#bytes.subarray(1537);
      this.#isGreeted = 1;
      return true;
    }
    if (this.#isGreeted === 1 && this.#bytes.length >= 1536) {
      this.#bytes = this.#bytes.subarray(1536);
      this.#isGreeted = 2;
      return true;
    }
    return false;
  }

  /** Takes one chunk; false: it is not there yet. */
  #chunk(at) {
    const bytes = this.#bytes;
    if (bytes.length < 1) return false;
    const form = bytes[0] >> 6;
    const short = bytes[0] & 63;
    let place = short === 0 ? 2 : short === 1 ? 3 : 1;
    const size = [11, 7, 3, 0][form];
    if (bytes.length < place + size) return false;
    const id = short === 0 ? 64 + bytes[1] : short === 1 ? 64 + bytes[1] + 256 * bytes[2] : short;
    const known = this.#streams.get(id) ?? { timestamp: 0, delta: 0, length: 0, type: 0, isExtended: false, pieces: [], has: 0 };
    const header = { ...known };
    if (form < 3) header.time = bytes.readUIntBE(place, 3);
    if (form < 2) [header.length, header.type] = [bytes.readUIntBE(place + 3, 3), bytes[place + 6]];
    place += size;
    if (form < 3) header.isExtended = header.time === 0xff_ffff;
    if (header.isExtended) {
      if (bytes.length < place + 4) return false;
      header.time = bytes.readUInt32BE(place);
      place += 4;
    }
    const wanted = Math.min(this.#chunkSize, header.length - header.has);
    if (bytes.length < place + wanted) return false;
    if (header.has === 0) {
      if (form === 0) [header.timestamp, header.delta] = [header.time, 0];
      else {
        if (form < 3) header.delta = header.time;
        header.timestamp = (header.timestamp + header.delta) >>> 0;
      }
    }
    header.pieces.push(bytes.subarray(place, place + wanted));
    header.has += wanted;
    this.#bytes = bytes.subarray(place + wanted);
    if (header.has === header.length) {
      const payload = Buffer.concat(header.pieces);
      [header.pieces, header.has] = [[], 0];
      this.#message({ type: header.type, timestamp: header.timestamp, payload, at });
    }
    this.#streams.set(id, header);
    return true;
  }

  #message(message) {
    const { type, payload } = message;
    if (type === 1) this.#chunkSize = payload.readUInt32BE(0) & 0x7fff_ffff;
    else if (type === AUDIO || type === VIDEO) this.#messages.push(message);
    else if (type === 20) this.#command(payload);
  }

  #command(payload) {
    const length = payload.readUInt16BE(1);
    const name = payload.toString('utf8', 3, 3 + length);
    const id = payload.readDoubleBE(3 + length + 1);
    if (name === 'connect') {
      this.#send(5, number(2_500_000));
      this.#send(20, string('_result'), double(id), object({}), object({ code: 'NetConnection.Connect.Success', level: 'status' }));
    } else if (name === 'createStream') this.#send(20, string('_result'), double(id), Buffer.from([5]), double(1));
    else if (name === 'publish') {
      this.#send(20, string('onStatus'), double(0), Buffer.from([5]), object({ code: 'NetStream.Publish.Start', level: 'status' }));
    }
  }

  #send(type, ...parts) {
    const body = Buffer.concat(parts);
    const header = Buffer.alloc(12);
    header[0] = type === 20 ? 3 : 2;
    header.writeUIntBE(body.length, 4, 3);
    header[7] = type;
    if (type === 20 && body.includes('onStatus')) header.writeUInt32LE(1, 8);
    const pieces = [header];
    for (let at = 0; at < body.length; at += 128) {
      if (at > 0) pieces.push(Buffer.from([0xc0 | (header[0] & 63)]));
      pieces.push(body.subarray(at, at + 128));
    }
    this.#socket.write(Buffer.concat(pieces));
  }
}

const number = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const double = (value) => {
  const bytes = Buffer.alloc(9);
  bytes.writeDoubleBE(value, 1);
  return bytes;
};
const key = (text) => Buffer.concat([Buffer.from([text.length >> 8, text.length & 255]), Buffer.from(text)]);
const string = (text) => Buffer.concat([Buffer.from([2]), key(text)]);
const object = (members) => Buffer.concat([
  Buffer.from([3]), ...Object.entries(members).flatMap(([name, text]) => [key(name), string(text)]), Buffer.from([0, 0, 9]),
]);

/** The pictures and sounds of messages as an FLV file, and when each was due (ms) and came. */
export function recordedPush(messages) {
  // What is no frame is a sequence header, or the end.
  const isFrame = ({ payload }) => payload[1] === 1;
  const tags = messages.map((message) => tag(message));
  const listed = (type) => messages.filter((message) => message.type === type && isFrame(message));
  const header = Buffer.from([0x46, 0x4c, 0x56, 1, 5, 0, 0, 0, 9, 0, 0, 0, 0]);
  return { bytes: Buffer.concat([header, ...tags]), video: listed(VIDEO), audio: listed(AUDIO) };
}

/** Reads an FLV file as if it had been pushed. */
export function readFlv(bytes) {
  const messages = [];
  for (let at = 13; at + 11 <= bytes.length;) {
    const length = bytes.readUIntBE(at + 1, 3);
    const timestamp = bytes.readUIntBE(at + 4, 3) + bytes[at + 7] * 2 ** 24;
    if ([AUDIO, VIDEO].includes(bytes[at])) messages.push({ type: bytes[at], timestamp, payload: bytes.subarray(at + 11, at + 11 + length) });
    at += 11 + length + 4;
  }
  return messages;
}

function tag({ type, timestamp, payload }) {
  const bytes = Buffer.alloc(11 + payload.length + 4);
  bytes[0] = type;
  bytes.writeUIntBE(payload.length, 1, 3);
  bytes.writeUIntBE(timestamp & 0xff_ffff, 4, 3);
  bytes[7] = timestamp >>> 24;
  payload.copy(bytes, 11);
  bytes.writeUInt32BE(11 + payload.length, 11 + payload.length);
  return bytes;
}
