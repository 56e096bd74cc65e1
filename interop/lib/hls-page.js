// Runs in a page of a site of its own, with hls.js: plays one broadcast and notes what a viewer would
// notice. `window.player` is driven from player.mjs.
window.player = (() => {
  const noted = { fatal: [], errors: [], stalls: 0, discontinuities: new Set(), parts: 0, keys: 0, urls: [], ended: false };
  let hls;
  let energy = 0;

  /** Begins to play `url`; resolves as soon as that is under way. */
  async function play(url, config = {}) {
    const { Hls } = window;
    const video = document.querySelector('video');
    hls = new Hls({ lowLatencyMode: true, enableWorker: false, debug: window.hlsLog.words, ...config });
    hls.on(Hls.Events.ERROR, (_, { fatal, type, details, error, response }) => {
      const text = `${type} ${details} ${response?.code ?? ''} ${error?.message ?? ''}`.trim();
      (fatal ? noted.fatal : noted.errors).push(text);
    });
    hls.on(Hls.Events.FRAG_CHANGED, (_, { frag }) => noted.discontinuities.add(frag.cc));
    hls.on(Hls.Events.FRAG_LOADED, (_, { part }) => (noted.parts += part ? 1 : 0));
    hls.on(Hls.Events.KEY_LOADED, () => (noted.keys += 1));
    // Whatever is fetched, and where from.
    const urls = {
      LEVEL_LOADING: ({ url }) => url,
      AUDIO_TRACK_LOADING: ({ url }) => url,
      FRAG_LOADING: ({ frag, part }) => part?.url ?? frag.url,
      KEY_LOADING: ({ frag }) => frag.decryptdata.uri,
    };
    for (const [name, of] of Object.entries(urls)) hls.on(Hls.Events[name], (_, data) => noted.urls.push(of(data)));
    video.addEventListener('ended', () => (noted.ended = true));
    // What happens before the first picture is loading, not stalling.
    video.addEventListener('playing', () => video.addEventListener('waiting', () => (noted.stalls += 1)), { once: true });
    window.hlsLog.follow(Hls, hls, video);
    hls.loadSource(url);
    hls.attachMedia(video);
    listen(video);
    await video.play().catch((error) => {
      if (error.name !== 'AbortError') throw error;
    });
  }

  /** Sums up what comes out of the element, as nobody hears it here. */
  function listen(video) {
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 4096 });
    context.createMediaElementSource(video).connect(analyser).connect(context.destination);
    const samples = new Float32Array(analyser.fftSize);
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      energy += samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    }, 50);
  }

  /** How it is now. */
  function look() {
    const video = document.querySelector('video');
    const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
    const playing = hls.playingDate;
    return {
      time: video.currentTime, paused: video.paused, ready: video.readyState, error: video.error?.message ?? null,
      width: video.videoWidth, height: video.videoHeight, frames: totalVideoFrames, dropped: droppedVideoFrames,
      picture: window.plenumTest.pictures()[0] ?? null, energy,
      behind: playing ? (Date.now() - playing.getTime()) / 1000 : null, latency: hls.latency,
      level: hls.currentLevel,
      ladder: hls.levels.map(({ width, height, bitrate, codecs }) => ({ width, height, bitrate, codecs })),
      ...noted, discontinuities: [...noted.discontinuities], urls: undefined,
    };
  }

  return {
    play, look,
    urls: () => noted.urls,
    /** Has sound and picture of one rung, from the next segment on. */
    choose: (level) => (hls.nextLevel = level),
  };
})();
