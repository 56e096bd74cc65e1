// Runs in a page with raw-client.js and bar-code.js in it: publishes 1280x720 at 30 frames/s with the time
// burned in, a white flash on every whole second and a beep of 100 ms at the same moment.
window.source = (() => {
  const [WIDTH, HEIGHT, FPS] = [1280, 720, 30];
  const RATE = 48_000;
  const BEEP_MS = 100;
  const TONE_HZ = 1000;

  /** Milliseconds since 1970, finer than `Date.now()` and of the same clock. */
  const offset = (() => {
    const before = Date.now();
    let now;
    while ((now = Date.now()) === before);
    return now - performance.now();
  })();
  const wallMs = () => performance.now() + offset;

  /** Noise costs bits: a still picture would be cheaper than what cameras see. */
  function noise(bytes) {
    let seed = 1;
    for (let i = 0; i < bytes.length; i += 1) {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff;
      bytes[i] = 96 + ((seed >>> 16) & 31);
    }
  }

  function video() {
    const generator = new MediaStreamTrackGenerator({ kind: 'video' });
    const writer = generator.writable.getWriter();
    const [luma, chroma] = [WIDTH * HEIGHT, (WIDTH * HEIGHT) / 2];
    const picture = new Uint8Array(luma + chroma).fill(128, luma);
    // Twice as high as a third of the picture: a window into it is never the same twice in a row.
    const texture = new Uint8Array((2 * luma) / 3);
    noise(texture);
    const counts = { frames: 0, skipped: 0 };
    let second = Math.floor(wallMs() / 1000);
    const draw = () => {
      const ms = wallMs();
      const isFlash = Math.floor(ms / 1000) !== second;
      second = Math.floor(ms / 1000);
      picture.fill(isFlash ? 235 : 60, 0, luma);
      const from = (((counts.frames * 7) % (HEIGHT / 3)) * WIDTH) % (luma / 3);
      picture.set(texture.subarray(from, from + luma / 3), luma / 3);
      barCode.burn(picture, WIDTH, HEIGHT, Math.floor(ms));
      const frame = new VideoFrame(picture, {
        format: 'I420', codedWidth: WIDTH, codedHeight: HEIGHT, timestamp: Math.round(performance.now() * 1000),
      });
      writer.write(frame);
      counts.frames += 1;
    };
    const start = performance.now();
    let due = 0;
    const tick = () => {
      draw();
      const next = Math.floor(((performance.now() - start) * FPS) / 1000) + 1;
      counts.skipped += next - due - 1;
      due = next;
      setTimeout(tick, Math.max(0, start + (due * 1000) / FPS - performance.now()));
    };
    tick();
    return { track: generator, counts };
  }

  function audio() {
    const generator = new MediaStreamTrackGenerator({ kind: 'audio' });
    const writer = generator.writable.getWriter();
    const length = RATE / 100;
    const startMs = wallMs();
    let written = 0;
    // A little noise all the time: microphones are never silent.
    const write = () => {
      while (written + length <= ((wallMs() - startMs) * RATE) / 1000) {
        const data = new Float32Array(length);
        for (let i = 0; i < length; i += 1) {
          const ms = (startMs + ((written + i) * 1000) / RATE) % 1000;
          const tone = ms < BEEP_MS ? 0.5 * Math.sin((2 * Math.PI * TONE_HZ * ms) / 1000) : 0;
          data[i] = tone + (Math.random() - 0.5) * 0.002;
        }
        const timestamp = Math.round((performance.now() - (wallMs() - startMs) + (written * 1000) / RATE) * 1000);
        writer.write(new AudioData({ format: 'f32-planar', sampleRate: RATE, numberOfFrames: length, numberOfChannels: 1, timestamp, data }));
        written += length;
      }
    };
    setInterval(write, 5);
    return generator;
  }

  /** Joins and publishes; `bitrate` is the most its pictures may take. */
  async function publish(url, token, bitrate) {
    const client = new window.RawClient({ audioSlots: 0, videoSlots: 0 });
    const { track, counts } = video();
    const sendEncodings = [{ maxBitrate: bitrate, maxFramerate: FPS }];
    const camera = client.addTrack(track, { source: 'camera', width: WIDTH, height: HEIGHT, sendEncodings });
    client.addTrack(audio(), { source: 'microphone' });
    const parameters = camera.sender.getParameters();
    await camera.sender.setParameters({ ...parameters, degradationPreference: 'maintain-resolution' }).catch(() => {});
    await client.join(url, token, { autoSubscribe: false });
    window.client = client;
    window.counts = counts;
  }

  /** What it sends, since it began. */
  async function look() {
    const report = [...(await window.client.pc.getStats()).values()];
    const sent = report.find((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video');
    const codec = report.find((stat) => stat.id === sent?.codecId);
    return {
      at: performance.now(), drawn: window.counts.frames, skipped: window.counts.skipped, codec: codec?.mimeType,
      frames: sent?.framesEncoded ?? 0, width: sent?.frameWidth ?? 0, height: sent?.frameHeight ?? 0,
      bytes: sent?.bytesSent ?? 0, encodeS: sent?.totalEncodeTime ?? 0, keyframes: sent?.keyFramesEncoded ?? 0,
      encoder: sent?.encoderImplementation, limited: sent?.qualityLimitationReason,
    };
  }

  return { publish, look };
})();
