// What an encoder would publish, made once: 720p at 30 frames/s and 2.5 Mbit/s with a clock burned in, and a beep
// on every whole second of it. It is sent without being encoded again, which costs next to nothing.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import './bar-code.js';
import { readFlv, recordedPush } from './rtmp-sink.mjs';

const { barCode } = globalThis;
const [WIDTH, HEIGHT, FPS, RATE] = [1280, 720, 30, 48_000];
/** A whole number of frames of both: it can be repeated without a seam. */
const PERIOD_MS = 8_000;
const [PICTURES, SOUNDS] = [(PERIOD_MS * FPS) / 1000, (PERIOD_MS * RATE) / 1000 / 1024];

/** Writes `seconds` of it as FLV; the path of the file, and one period's messages. */
export async function makeEncoderFile(folder, seconds) {
  const [sound, once_, long] = ['beeps.pcm', 'period.flv', 'encoder.flv'].map((name) => path.join(folder, name));
  fs.writeFileSync(sound, beepsOfPeriod());
  await encode(sound, once_);
  const messages = readFlv(fs.readFileSync(once_));
  const { video, audio } = recordedPush(messages);
  if (video.length !== PICTURES || audio.length < SOUNDS) throw new Error(`a period of ${video.length} pictures and ${audio.length} sounds`);
  const headers = messages.filter(({ payload }) => payload[1] === 0);
  const period = [...video, ...audio.slice(0, SOUNDS)].sort((a, b) => a.timestamp - b.timestamp);
  const repeats = [...Array(Math.ceil((seconds * 1000) / PERIOD_MS)).keys()];
  const all = repeats.flatMap((n) => period.map((message) => ({ ...message, timestamp: message.timestamp + n * PERIOD_MS })));
  fs.writeFileSync(long, recordedPush([...headers.map((message) => ({ ...message, timestamp: 0 })), ...all]).bytes);
  return { file: long, messages };
}

/** Publishes the file in its own time. */
export function publishFile(file, url) {
  const child = spawn('ffmpeg', ['-hide_banner', '-loglevel', 'error', '-nostdin', '-re', '-i', file, '-c', 'copy', '-f', 'flv', url], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (text) => (errors = (errors + text).slice(-2000)));
  const killAtExit = () => child.kill('SIGKILL');
  process.on('exit', killAtExit);
  const ended = once(child, 'close').then(() => process.off('exit', killAtExit));
  return {
    errors: () => errors,
    async stop() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function encode(sound, file) {
  const child = spawn('ffmpeg', [
    '-hide_banner', '-loglevel', 'error', '-y',
    '-f', 'rawvideo', '-pix_fmt', 'yuv420p', '-s', `${WIDTH}x${HEIGHT}`, '-r', String(FPS), '-i', 'pipe:0',
    '-f', 's16le', '-ar', String(RATE), '-ac', '1', '-i', sound,
    '-c:v', 'libx264', '-preset', 'superfast', '-profile:v', 'main', '-bf', '0', '-g', String(FPS * 2), '-sc_threshold', '0',
    '-b:v', '2500k', '-minrate', '2500k', '-maxrate', '2500k', '-bufsize', '2500k', '-nal-hrd', 'cbr',
    '-c:a', 'aac', '-b:a', '128k', '-ac', '2', '-f', 'flv', file,
  ], { stdio: ['pipe', 'ignore', 'inherit'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
  const ended = once(child, 'close');
  child.stdin.on('error', () => {});
  for (let n = 0; n < PICTURES; n += 1) {
    const picture = pictureOf(n);
    if (!child.stdin.write(picture)) await Promise.race([once(child.stdin, 'drain'), ended]);
  }
  child.stdin.end();
  const [code] = await ended;
  clearTimeout(timer);
  if (code !== 0) throw new Error(`ffmpeg ended (${code})`);
}

/** A picture with its time burned in, a flash on whole seconds, and something that moves. */
function pictureOf(n) {
  const luma = WIDTH * HEIGHT;
  const picture = Buffer.alloc(luma * 1.5, 128);
  picture.fill(n % FPS === 0 ? 235 : 60, 0, luma);
  for (let row = 240; row < 480; row += 1) {
    for (let x = 0; x < WIDTH; x += 8) picture.fill(64 + (((x * 7) ^ (row * 13) ^ (n * 5)) & 63), row * WIDTH + x, row * WIDTH + x + 8);
  }
  barCode.burn(picture, WIDTH, HEIGHT, Math.round((n * 1000) / FPS));
  return picture;
}

function beepsOfPeriod() {
  const samples = new Int16Array((PERIOD_MS * RATE) / 1000);
  for (let n = 0; n < samples.length; n += 1) {
    const ms = ((n * 1000) / RATE) % 1000;
    samples[n] = (ms < 100 ? 0.5 * Math.sin((2 * Math.PI * 1000 * ms) / 1000) : 0) * 32_767 + (Math.random() - 0.5) * 60;
  }
  return Buffer.from(samples.buffer);
}
