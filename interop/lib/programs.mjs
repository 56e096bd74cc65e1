// Programs that are no browsers: ffmpeg 9 and aiortc from the Python environment that `make setup` made.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import path from 'node:path';

/** Python with aiortc and imageio-ffmpeg. */
export const PYTHON = process.env.PLENUM_PYTHON ?? 'python3';

let ffmpegPath;

/** ffmpeg 9, which has a WHIP muxer (Debian 12's own is 5.1 and has none). */
export function ffmpeg() {
  ffmpegPath ??= execFileSync(PYTHON, ['-c', 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())'])
    .toString().trim();
  return ffmpegPath;
}

/** Publishes a test picture and tone by WHIP until stopped or `seconds` have passed. */
export function publishByFfmpeg(url, token, { seconds, flags = [] }) {
  return start(ffmpeg(), [
    '-hide_banner', '-loglevel', 'info', '-nostats',
    '-re', '-f', 'lavfi', '-i', 'testsrc2=size=320x180:rate=15',
    '-re', '-f', 'lavfi', '-i', 'sine=sample_rate=48000',
    '-t', String(seconds),
    '-c:v', 'libx264', '-profile:v', 'baseline', '-preset', 'ultrafast', '-tune', 'zerolatency',
    '-bf', '0', '-g', '15', '-pix_fmt', 'yuv420p',
    '-c:a', 'libopus', '-ar', '48000', '-ac', '2',
    '-f', 'whip', '-authorization', token, ...flags, url,
  ]);
}

/**
 * Receives by WHEP with aiortc for `seconds`, inside `host` of a natlab if given; `ended` has its report. With
 * `policy` "relay" it goes by TURN alone; `ca` is a file of certificates to trust.
 */
export function receiveByAiortc(url, token, { codec, seconds, policy = 'all', host, ca }) {
  const script = path.join(import.meta.dirname, '..', 'python', 'whep_receive.py');
  return start(PYTHON, [script, url, token, codec, String(seconds), policy], { host, env: ca ? { SSL_CERT_FILE: ca } : {} });
}

/** Why coturn's own clients cannot be used, or false. */
export function noCoturn() {
  const { error } = spawnSync('turnutils_uclient', ['-h'], { stdio: 'ignore' });
  return error ? `turnutils_uclient (Debian: coturn) cannot be started: ${error.message}` : false;
}

/** One of coturn's programs, inside `host` of a natlab if given. */
export function coturn(program, args, host) {
  return start(`turnutils_${program}`, args, { host });
}

/** Publishes three simulcast layers by WHIP with libwebrtc in Node, until stopped. */
export function publishByWrtc(url, token) {
  const script = path.join(import.meta.dirname, 'wrtc-publish.mjs');
  return start(process.execPath, [script, url, token]);
}

/** Debian's own Python: GStreamer's modules are in no virtual environment. */
const SYSTEM_PYTHON = '/usr/bin/python3';

/** GStreamer with webrtcbin and its Python modules is installed. */
export function hasGstreamer() {
  const check = "import gi; gi.require_version('GstWebRTC', '1.0'); from gi.repository import Gst, GstWebRTC; Gst.init(None); "
    + "import sys; sys.exit(0 if all(map(Gst.ElementFactory.find, ['webrtcbin', 'nicesrc', 'vp8enc', 'opusenc'])) else 1)";
  return spawnSync(SYSTEM_PYTHON, ['-c', check], { stdio: 'ignore' }).status === 0;
}

/** Publishes a test picture and tone by WHIP over ICE-TCP alone for `seconds`; `ended` has its report. */
export function publishByGstreamer(url, token, { seconds }) {
  const script = path.join(import.meta.dirname, '..', 'python', 'gst_publish.py');
  return start(SYSTEM_PYTHON, [script, url, token, String(seconds)]);
}

/**
 * Plays `seconds` of a broadcast with Debian's ffmpeg and gives what it complains about, but for one thing: each time
 * it reads a playlist it takes its initialisation segment for another one.
 */
export async function complaintsOfFfmpeg(url, seconds) {
  // Times stay as they are: rounded to the frame rate two pictures of a camera may have the same, which it reports.
  const args = ['-nostdin', '-v', 'error', '-i', url, '-t', String(seconds), '-enc_time_base', '-1', '-f', 'null', '-'];
  const program = start('ffmpeg', args);
  const timer = setTimeout(() => program.stop(), (seconds + 25) * 1000);
  const { code, stderr } = await program.ended;
  clearTimeout(timer);
  const lines = stderr.split('\n').filter((line) => line && !line.includes('duplicated MOOV'));
  return code === 0 ? lines : [`ffmpeg ended with ${code}`, ...lines];
}

/** The streams that Debian's ffprobe finds at a URL. */
export async function probe(url) {
  const program = start('ffprobe', ['-v', 'error', '-show_streams', '-of', 'json', url]);
  const timer = setTimeout(() => program.stop(), 30_000);
  const { code, stdout, stderr } = await program.ended;
  clearTimeout(timer);
  if (code !== 0) throw new Error(`ffprobe ended with ${code}: ${stderr.slice(-1500)}`);
  return JSON.parse(stdout).streams;
}

/**
 * Starts a program, inside `host` of a natlab if given. `ended` has its code, or its signal, and what it
 * printed; `stop` has it end in its own way, `kill` does not ask.
 */
export function start(program, args, { host, env = {}, cwd } = {}) {
  const [file, fileArgs] = host ? host.command(program, args) : [program, args];
  const child = spawn(file, fileArgs, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env }, cwd });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].on('data', (chunk) => (text[name] = (text[name] + chunk).slice(-100_000)));
  }
  const ended = new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: -1, stdout: '', stderr: error.message }));
    child.on('close', (code, signal) => resolve({ code: code ?? signal, ...text }));
  });
  const killAtExit = () => child.kill('SIGKILL');
  process.on('exit', killAtExit);
  ended.then(() => process.off('exit', killAtExit));
  return {
    ended,
    output: () => text.stdout + text.stderr,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    async kill() {
      child.kill('SIGKILL');
      return ended;
    },
    async stop() {
      child.kill('SIGINT');
      const killer = setTimeout(() => child.kill('SIGKILL'), 3000);
      const result = await ended;
      clearTimeout(killer);
      return result;
    },
  };
}
