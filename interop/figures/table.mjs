// Figures as a table, beside what they should be.
import { mean } from './processor.mjs';

const round = (value, digits = 0) => (Number.isFinite(value) ? value.toFixed(digits) : '-');
const ms = (value) => `${round(value)} ms`;
const percent = (value) => `${round(value, 2)} %`;
const verdict = (isMet) => (isMet ? 'yes' : 'NO');

/** All rows of the table: what, figures, goal, whether that is met. */
function rows(figures) {
  const list = [];
  const add = (what, seen, goal = '', isMet) => list.push([what, seen, goal, isMet === undefined ? '' : verdict(isMet)]);
  const spread = ({ p50, p95, max, samples }) => `p50 ${ms(p50)}, p95 ${ms(p95)}, max ${ms(max)} (${samples})`;
  const age = (name, seen, goal, isMet) => {
    if (!seen || seen.error) return add(name, seen?.error ?? '-');
    add(name, spread(seen), goal, isMet(seen));
    const target = seen.target ? `, target ${round(seen.target * 1000)} ms` : '';
    const shown = `${seen.fps} frames/s, the longest ${ms(seen.longest)}`;
    add('  first picture; stalls before, then', `${ms(seen.first)}; ${seen.earlierStalls}, ${seen.stalls}; ${shown}${target}`);
  };
  const offset = (name, { median, worst, events }, isGoal = true) => {
    const seen = `median ${round(median, 1)} ms, worst ${round(worst, 1)} ms (${events})`;
    if (!isGoal) return add(name, seen);
    add(name, seen, 'median 40, worst 80 ms', events >= 10 && Math.abs(median) <= 40 && Math.abs(worst) <= 80);
  };
  const parts = (name, seen) => add(name, spread(seen), 'p95 80 ms', seen.p95 <= 80);
  const cost = (name, { passthrough, idle, busy }, limit) => {
    const both = `${busy.map((value) => round(value, 2)).join(' ')} less ${idle.map((value) => round(value, 2)).join(' ')}`;
    // What the same packets cost without it, in the same minute: the pace of a machine that others share.
    const times = round(passthrough / mean(idle), 2);
    add(name, `${percent(passthrough)} of a core, ${times} times the room (${both})`, limit ? `${limit} %` : '', limit && passthrough <= limit);
  };
  const holes = (seen) => {
    const [hls, push] = [seen.parts, seen.push].map(({ brokenBeeps, offset: { events } }) => `${brokenBeeps} of ${events}`);
    add('beeps with a hole, HLS; RTMP push', `${hls}; ${push}`);
  };
  const failed = (name) => figures[name]?.error && add(name, figures[name].error.split('\n')[0]);
  for (const name of ['room', 'opus', 'encoder', 'forwarding']) failed(name);
  const { room, opus, encoder, forwarding } = Object.fromEntries(Object.entries(figures).filter(([, part]) => !part.error));
  if (room) {
    const { source } = room;
    const low = ['p50 1500, p95 2000 ms', ({ p50, p95 }) => p50 <= 1500 && p95 <= 2000];
    const plain = ['p95 8000 ms', ({ p95 }) => p95 <= 8000];
    age('glass to glass, LL-HLS, hls.js', room.lowLatency, ...low);
    if (room.viewerPage) age('glass to glass, LL-HLS, viewer page', room.viewerPage, ...low);
    age('glass to glass, plain HLS, hls.js', room.plain, ...plain);
    age('glass to glass, plain HLS, Chromium itself', room.native, ...plain);
    parts('part out after its newest frame was drawn', room.parts.captured);
    parts('part out after its newest frame, by its date', room.parts.dated);
    parts(`the same with ${room.viewers.viewers} viewers`, room.viewers.published);
    add('part of sound out after its newest frame, by its date', spread(room.parts.sound));
    add('date-time less burned-in clock', spread(room.parts.date));
    add('RTMP push, pictures, after they were drawn', spread(room.push.video), 'p95 250 ms', room.push.video.p95 <= 250);
    add('RTMP push, sound, after it was heard', spread(room.push.audio), 'p95 250 ms', room.push.audio.p95 <= 250);
    offset('sound after picture, HLS', room.parts.offset);
    offset('sound after picture, RTMP push', room.push.offset);
    holes(room);
    if (room.parts.unread > 0) add('  pictures in HLS that cannot be decoded', `${room.parts.unread} of ${room.parts.pictures}`);
    cost('passthrough 720p30, AAC', room.cpu, 2);
    const { viewers } = room;
    const served = `${round(viewers.requests)} requests/s, ${round(viewers.mbps)} Mbit/s, ${viewers.errors} errors`;
    const isMet = room.cpu.viewers <= 8 && viewers.errors === 0;
    add(`${viewers.viewers} viewers, LL-HLS`, `${percent(room.cpu.viewers)} of a core; ${served}`, '8 %', isMet);
    const picture = `${source.fps} frames/s, ${source.kbps} kbit/s, ${source.encodeMs} ms to encode one`;
    add('  the source meanwhile', `${source.codec} ${source.size}, ${picture}`);
  }
  if (opus) {
    cost('passthrough 720p30, Opus', opus.cpu, 1);
    offset('sound after picture, HLS, Opus', opus.parts.offset);
  }
  if (encoder) {
    cost('passthrough 720p30 of an RTMP encoder, AAC', encoder.cpu);
    parts('part out after its newest frame, RTMP encoder', encoder.parts.dated);
    offset('sound after picture, RTMP encoder: its file', encoder.file, false);
    offset('sound after picture, RTMP encoder, HLS', encoder.parts.offset);
    offset('sound after picture, RTMP encoder, push', encoder.push.offset);
    holes(encoder);
  }
  if (forwarding) {
    const both = `${round(forwarding.without, 2)} ms, ${round(forwarding.with, 2)} ms`;
    add('forwarding p99, without and with a broadcast', both, 'change 1 ms', forwarding.p99 <= 1);
    add('forwarding p50, change', `${round(forwarding.p50, 2)} ms`);
  }
  return list;
}

export function table(figures) {
  const list = [['', 'seen', 'goal', 'met'], ...rows(figures)];
  const widths = [0, 1, 2].map((column) => Math.max(...list.map((row) => row[column].length)));
  const { conditions } = figures;
  const lines = list.map((row) => row.map((cell, n) => cell.padEnd(widths[n] ?? 0)).join('  ').trimEnd());
  lines.push(`${conditions.cores} cores, ${conditions.processor}; load average ${round(conditions.load, 1)} before, `
    + `${round(conditions.loadAtEnd, 1)} after; ${conditions.seconds} s${conditions.quick ? ', quick' : ''}`);
  return lines.join('\n');
}
