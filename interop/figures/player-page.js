// Runs in a page with a <video>, and with hls.js and bar-code.js in it: plays a broadcast and notes how old the
// pictures are that it shows. `window.watched` is what it has noted since `begin()`.
window.player = (() => {
  const canvas = new OffscreenCanvas(barCode.CELLS, 1);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const fresh = () => ({ ages: [], unread: 0, frames: 0, stalls: 0, longestMs: 0, since: performance.now() });
  const errors = [];
  let stallsInAll = 0;
  let noted = fresh();
  let firstMs = null;
  let hls = null;

  const video = () => document.querySelector('video');

  function readAge(element) {
    const height = element.videoHeight * barCode.STRIP;
    context.drawImage(element, 0, height * 0.2, element.videoWidth, height * 0.6, 0, 0, barCode.CELLS, 1);
    const now = Date.now();
    const pixels = context.getImageData(0, 0, barCode.CELLS, 1).data;
    const read = barCode.read([...Array(barCode.CELLS).keys()].map((n) => pixels[4 * n + 1]));
    return read === null ? null : barCode.age(now, read);
  }

  /** Looks at every third picture: enough to see all there is, and a third of the work. */
  function look(element) {
    let last = null;
    const shown = () => {
      const now = performance.now();
      firstMs ??= now;
      if (last !== null && last >= noted.since) noted.longestMs = Math.max(noted.longestMs, now - last);
      last = now;
      noted.frames += 1;
      if (noted.frames % 3 === 0) {
        const age = readAge(element);
        if (age === null) noted.unread += 1;
        else noted.ages.push(age);
      }
      element.requestVideoFrameCallback(shown);
    };
    element.requestVideoFrameCallback(shown);
    element.addEventListener('waiting', () => {
      if (firstMs === null) return;
      noted.stalls += 1;
      stallsInAll += 1;
    });
    element.addEventListener('error', () => errors.push(element.error?.message ?? 'error'));
  }

  /** Plays by hls.js with `config`, or by the browser itself where that is `null`. */
  function play(url, config) {
    const element = video();
    look(element);
    if (!config) {
      // Pictures of another site are to be looked at.
      element.crossOrigin = 'anonymous';
      element.src = url;
    } else {
      const { Hls } = window;
      hls = new Hls(config);
      window.hlsLog.follow(Hls, hls, element);
      hls.on(Hls.Events.ERROR, (_, { fatal, type, details }) => errors.push(`${fatal ? 'fatal ' : ''}${type} ${details}`));
      hls.loadSource(url);
      hls.attachMedia(element);
    }
    element.play().catch((error) => errors.push(error.message));
  }

  return {
    play,
    /** Looks at what another script plays. */
    look: () => look(video()),
    begin: () => (noted = fresh()),
    result: () => ({ ...noted, errors, stallsInAll, firstMs, targetS: hls?.targetLatency ?? null, rate: video().playbackRate, dropped: video().getVideoPlaybackQuality().droppedVideoFrames }),
  };
})();
