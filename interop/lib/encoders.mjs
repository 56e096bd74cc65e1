// Encoders that publish by RTMP, and what ffmpeg's tools say of streams and files.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { start } from './programs.mjs';

/** The pitch of the tone that encoders send. */
export const TONE_HZ = 1000;

/** H264 as rooms take it; `-g` is the distance of keyframes in pictures. */
const H264 = ['-c:v', 'libx264', '-profile:v', 'baseline', '-preset', 'ultrafast', '-tune', 'zerolatency', '-bf', '0', '-g', '15'];

/**
 * Publishes a moving picture and a tone, AAC of 44.1 kHz and one channel, until stopped or `seconds` have
 * passed. `picture` or `tone` of `false` leaves that out; `picture` may be flags of another encoder,
 * `toneAfter` seconds in which no sound is sent at all, `clock` where its clock begins, in seconds.
 */
export function encode(url, { picture = H264, fps = 15, tone = true, toneAfter, clock, seconds = 100, program = 'ffmpeg' } = {}) {
  const inputs = [
    ...(picture ? ['-re', '-f', 'lavfi', '-i', `testsrc2=size=320x180:rate=${fps}`] : []),
    ...(toneAfter ? ['-itsoffset', String(toneAfter)] : []),
    ...(tone ? ['-re', '-f', 'lavfi', '-i', `sine=frequency=${TONE_HZ}:sample_rate=44100`] : []),
  ];
  return start(program, [
    '-hide_banner', '-loglevel', 'info', '-nostats', '-nostdin',
    ...inputs, '-t', String(seconds),
    ...(picture ? [...picture, '-pix_fmt', 'yuv420p'] : []),
    ...(tone ? ['-c:a', 'aac', '-ar', '44100', '-ac', '1', '-b:a', '64k'] : []),
    ...(clock ? ['-output_ts_offset', String(clock)] : []),
    '-f', 'flv', url,
  ]);
}

/** What ffprobe finds in a file or stream: its `streams` and its `format`. */
export async function probe(source, flags = []) {
  const args = ['-v', 'error', '-show_streams', '-show_format', '-of', 'json', ...flags, source];
  const { stdout } = await promisify(execFile)('ffprobe', args, { timeout: 30_000, maxBuffer: 1 << 24 });
  return JSON.parse(stdout);
}

/** Decodes a file or stream to its end, or as `flags` before and after it say; resolves with all that ffmpeg complains about. */
export async function complaints(source, { before = [], after = [] } = {}) {
  // Pictures keep their own times: in steps of a guessed frame rate two of them can fall into one.
  const times = ['-fps_mode', 'passthrough', '-enc_time_base:v', '1:90000'];
  const args = ['-nostdin', '-v', 'error', ...before, '-i', source, ...after, ...times, '-f', 'null', '-'];
  const { stderr } = await promisify(execFile)('ffmpeg', args, { timeout: 60_000, maxBuffer: 1 << 24 });
  return stderr;
}
