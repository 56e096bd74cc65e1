// What is to be seen and heard in a recording, by ffmpeg: burned-in times, and beeps.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import './bar-code.js';

const { barCode } = globalThis;
const RATE = 48_000;

/** What ffmpeg makes of a file: bytes, and what it says. */
function decode(file, args) {
  const command = ['-hide_banner', '-nostats', '-nostdin', '-copyts', '-skip_loop_filter', 'all', '-i', file, ...args, 'pipe:1'];
  const child = spawn('ffmpeg', command, { stdio: ['ignore', 'pipe', 'pipe'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
  const pieces = [];
  let text = '';
  child.stdout.on('data', (piece) => pieces.push(piece));
  child.stderr.on('data', (piece) => (text += piece));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) resolve({ bytes: Buffer.concat(pieces), text });
      else reject(new Error(`ffmpeg ended (${code}): ${text.slice(-2000)}`));
    });
  });
}

/** The time burned into each picture that can be decoded and read, by its place in ticks of the stream. */
export async function burnedTimes(folder, name, bytes) {
  const file = path.join(folder, name);
  fs.writeFileSync(file, bytes);
  // Each cell becomes one pixel, the mean of its middle.
  const strip = `crop=iw:ih*${barCode.STRIP}*0.6:0:ih*${barCode.STRIP}*0.2`;
  const filter = `${strip},scale=${barCode.CELLS}:1:flags=area,format=gray,showinfo`;
  const decoded = await decode(file, ['-map', '0:v:0', '-fps_mode', 'passthrough', '-vf', filter, '-f', 'rawvideo']);
  fs.rmSync(file);
  const places = [...decoded.text.matchAll(/ n: *\d+ pts: *(\d+)/g)].map(([, pts]) => Number(pts));
  const times = new Map();
  places.forEach((place, n) => {
    const time = barCode.read(decoded.bytes.subarray(n * barCode.CELLS, (n + 1) * barCode.CELLS));
    if (time !== null) times.set(place, time);
  });
  return times;
}

/** Beeps in a stream of sound: their middles in samples at 48 kHz from its first one, and how many have holes. */
export async function beeps(folder, name, bytes) {
  const file = path.join(folder, name);
  fs.writeFileSync(file, bytes);
  const { bytes: pcm } = await decode(file, ['-loglevel', 'error', '-map', '0:a:0', '-ac', '1', '-ar', String(RATE), '-f', 's16le']);
  fs.rmSync(file);
  const samples = new Int16Array(pcm.buffer, pcm.byteOffset, pcm.length >> 1);
  const found = beepsIn(samples);
  return { middles: found.map(({ middle }) => middle), broken: found.filter(({ holes }) => holes > 0).length, length: samples.length };
}

/** How loud 1 kHz is around each sample: the tone turned to zero hertz, and summed over 5 ms. */
function loudness(samples) {
  const window = RATE / 200;
  const [cosine, sine] = [Math.cos, Math.sin].map((f) => Float64Array.from({ length: 48 }, (_, n) => f((2 * Math.PI * n) / 48)));
  const [i, q] = [new Float64Array(samples.length + 1), new Float64Array(samples.length + 1)];
  for (let n = 0; n < samples.length; n += 1) {
    i[n + 1] = i[n] + samples[n] * cosine[n % 48];
    q[n + 1] = q[n] + samples[n] * sine[n % 48];
  }
  const half = window / 2;
  return Float64Array.from(samples, (_, n) => {
    const [from, to] = [Math.max(0, n - half), Math.min(samples.length, n + half)];
    return Math.hypot(i[to] - i[from], q[to] - q[from]);
  });
}

/**
 * A beep lasts from where it passes half its loudness until it falls below, and has a hole where it does so in
 * between. Both edges are blurred alike, so its middle is where it was.
 */
function beepsIn(samples) {
  const loud = loudness(samples);
  const sorted = Float64Array.from(loud).sort();
  // A tenth of the time is beeps.
  const limit = sorted[Math.floor(sorted.length * 0.96)] / 2;
  const found = [];
  for (let n = 1; n < loud.length && limit > 0; n += 1) {
    const last = found.at(-1);
    if (loud[n - 1] < limit && loud[n] >= limit) {
      if (last && n - last.from < RATE * 0.12) last.holes += 1;
      else found.push({ from: n, to: null, holes: 0 });
    } else if (loud[n - 1] >= limit && loud[n] < limit && last) last.to = n;
  }
  // Half a beep at the beginning or the end has no middle.
  const whole = found.filter(({ from, to }) => to && to - from > RATE * 0.09 && to - from < RATE * 0.12);
  return whole.map(({ from, to, holes }) => ({ middle: (from + to) / 2, holes }));
}

/**
 * How much later than the picture sound is, for every beep (ms): `pictures` are { atMs, burned }, `middles` the
 * middles of beeps in ms of the same timeline. The beep of second s has its middle 50 ms after s; where the
 * picture stands then is told by the pictures around: each one's place less the time burned into it.
 */
export function soundOffsets(pictures, middles) {
  const known = pictures.filter(({ burned }) => burned !== null);
  const shifts = known.map(({ atMs, burned }) => ({ atMs, shift: atMs - burned }));
  return middles.flatMap((middle) => {
    const near = shifts.filter(({ atMs }) => Math.abs(atMs - middle) < 250).map(({ shift }) => shift).sort((a, b) => a - b);
    if (near.length < 5) return [];
    // In the clock of the camera.
    const sounded = middle - near[near.length >> 1] - 50;
    const second = Math.round(sounded / 1000) * 1000;
    return [sounded - second];
  });
}
