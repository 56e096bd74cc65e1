// Many viewers of one broadcast in a process of their own: each follows picture and sound of its Low-Latency HLS
// over connections that stay. `node viewers.mjs URL COUNT SECONDS`; prints one line of JSON: { ready: true }
// when all follow, then what they asked for and got while it was counted.
import { Listener, renditions } from './listener.mjs';

const [url, count, seconds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// Nothing keeps it when the one who started it is gone.
setTimeout(() => process.exit(3), (seconds + 60) * 1000).unref();
process.on('disconnect', () => process.exit(3));

const listeners = [];
await Promise.all([...Array(count).keys()].map(async (n) => {
  // One comes after the other.
  await sleep((n * 2000) / count);
  const { video, audio } = await renditions(url);
  for (const playlist of [video, audio]) if (playlist) listeners.push(new Listener(playlist, { isLight: true }));
}));
await sleep(2000);
const sum = (field) => listeners.reduce((total, listener) => total + listener[field], 0);
const look = () => ({ requests: sum('requests'), bytes: sum('bytes'), at: performance.now(), cpu: process.cpuUsage() });
console.log(JSON.stringify({ ready: true }));
const before = look();
await sleep(seconds * 1000);
const after = look();
const errors = listeners.flatMap((listener) => listener.errors);
const time = (after.at - before.at) / 1000;
console.log(JSON.stringify({
  viewers: count,
  requests: (after.requests - before.requests) / time,
  mbps: ((after.bytes - before.bytes) * 8) / time / 1e6,
  cores: (after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system) / 1e6 / time,
  errors: errors.length,
  firstErrors: [...new Set(errors)].slice(0, 3),
}));
process.exit(0);
