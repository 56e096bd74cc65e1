// Figures out of what was recorded: delays and offsets in ms.
import { percentile } from '../lib/wait.mjs';
import './bar-code.js';
import { recordedPush } from './rtmp-sink.mjs';
import { beeps, burnedTimes, soundOffsets } from './recorded.mjs';

const { barCode } = globalThis;
const SAMPLES_PER_MS = 48;

/** Half of the values, 95 of 100, and all are no greater. */
export const spread = (values) => ({
  p50: percentile(values, 0.5), p95: percentile(values, 0.95), max: Math.max(...values), samples: values.length,
});

/** The median, and what is farthest from 0. */
export function offsetOf(values) {
  const worst = values.reduce((far, value) => (Math.abs(value) > Math.abs(far) ? value : far), 0);
  return { median: percentile(values, 0.5), worst, events: values.length };
}

/**
 * Of what listeners recorded: how long after its newest frame each part of pictures was published, by the clock
 * burned into that frame (`captured`) and by EXT-X-PROGRAM-DATE-TIME (`dated`); the latter for sound, too; how much
 * later than picture sound is; and what EXT-X-PROGRAM-DATE-TIME says more than the burned-in clock (`date`).
 */
export async function recordedParts(folder, { video, audio }, { hasClock }) {
  const burned = await burnedTimes(folder, 'video.mp4', video.bytes);
  const read = video.frames.map((frame) => ({
    frame, atMs: (frame.at * 1000) / video.rate, burned: timeOf(burned.get(frame.at), frame.part.at, hasClock),
  }));
  const newest = read.filter(({ frame }, n) => read[n + 1]?.frame.part !== frame.part).filter(({ burned: time }) => time !== null);
  const { middles, broken } = await soundMiddles(folder, audio);
  const result = {
    dated: spread(newest.map(({ frame }) => frame.part.at - frame.dateMs)),
    sound: spread(audio.frames.filter((frame, n) => audio.frames[n + 1]?.part !== frame.part).map((frame) => frame.part.at - frame.dateMs)),
    fetched: spread(video.parts.map((part) => part.fetchedAt - part.at)),
    offset: offsetOf(soundOffsets(read, middles)),
    brokenBeeps: broken,
    unread: read.filter(({ burned: time }) => time === null).length,
    gapMs: Math.round(Math.max(...read.slice(1).map(({ atMs }, n) => atMs - read[n].atMs))),
  };
  if (!hasClock) return result;
  return {
    ...result,
    captured: spread(newest.map(({ frame, burned: time }) => frame.part.at - time)),
    pictures: read.length,
    date: spread(read.filter(({ burned: time }) => time !== null).map(({ frame, burned: time }) => frame.dateMs - time)),
  };
}

/** A time that was read, in ms since 1970 where it is of a clock; `null`: it was not. */
function timeOf(burned, at, hasClock) {
  if (burned === undefined) return null;
  return hasClock ? barCode.whole(at, burned) : burned;
}

/** The middles of beeps in the ms of the stream's own timeline. */
async function soundMiddles(folder, { bytes, frames, rate }) {
  const { middles, broken, length } = await beeps(folder, 'audio.mp4', bytes);
  const total = frames.reduce((sum, { duration }) => sum + duration, 0) * (48_000 / rate);
  // A decoder may leave out what an encoder needs to get going; it never adds anything.
  const left = Math.round(total) - length;
  if (left < 0 || left > 4096) throw new Error(`${total} samples, ${length} decoded`);
  const perFrame = frames[0].duration * (48_000 / rate);
  return {
    broken,
    middles: middles.map((middle) => {
      const place = middle + left;
      const frame = frames[Math.min(frames.length - 1, Math.floor(place / perFrame))];
      return (frame.at * 1000) / rate + (place - Math.floor(place / perFrame) * perFrame) / SAMPLES_PER_MS;
    }),
  };
}

/** Of what was pushed: when it came after the clock burned into it, and how much later than picture sound is. */
export async function recordedMessages(folder, messages, { hasClock }) {
  const { bytes, video, audio } = recordedPush(messages);
  const burned = await burnedTimes(folder, 'push.flv', bytes);
  const read = video.map((message) => ({
    message, atMs: message.timestamp, burned: timeOf(burned.get(message.timestamp), message.at, hasClock),
  })).filter(({ burned: time }) => time !== null);
  const { middles, broken } = await beeps(folder, 'push.flv', bytes);
  const heard = middles.flatMap((middle) => {
    const message = audio[Math.floor(middle / 1024)];
    return message ? [message.timestamp + (middle % 1024) / SAMPLES_PER_MS] : [];
  });
  const result = { offset: offsetOf(soundOffsets(read, heard)), brokenBeeps: broken, unread: video.length - read.length, pictures: video.length, sounds: audio.length };
  if (!hasClock) return result;
  const shift = percentile(read.map(({ atMs, burned: time }) => time - atMs), 0.5);
  return {
    ...result,
    video: spread(read.map(({ message, burned: time }) => message.at - time)),
    audio: spread(audio.map((message) => message.at - (message.timestamp + shift))),
  };
}
