// Runs in a page: what hls.js and its <video> did last, a line for each thing. What else would say why it stalled?
window.hlsLog = (() => {
  const lines = [];
  const LINES_MAX = 4000;

  function write(...words) {
    const video = document.querySelector('video');
    const ranges = [...Array(video.buffered.length).keys()];
    const buffered = ranges.map((n) => `${video.buffered.start(n).toFixed(3)}-${video.buffered.end(n).toFixed(3)}`);
    lines.push([Math.round(performance.now()), ...words, `at ${video.currentTime.toFixed(3)} of ${buffered}`].join(' '));
    if (lines.length > LINES_MAX) lines.shift();
  }

  const levels = ['trace', 'debug', 'log', 'info', 'warn', 'error'];
  /** Writes what hls.js says itself; for its `debug`. */
  const words = Object.fromEntries(levels.map((level) => [level, (...said) => write(level, ...said)]));

  /** Writes what becomes of `hls`, with each playlist that it loads. */
  function follow({ Events }, hls, video) {
    const took = ({ loading: { start, end } }) => `asked ${Math.round(start)}, came ${Math.round(end)}`;
    const loaded = (name) => (_, { details, stats }) => write(name, `up to ${details.endSN}.${details.lastPartIndex}`, `${took(stats)}\n${details.m3u8}`);
    hls.on(Events.LEVEL_LOADED, loaded('playlist'));
    hls.on(Events.AUDIO_TRACK_LOADED, loaded("sound's playlist"));
    hls.on(Events.FRAG_LOADED, (_, { frag, part }) => write(frag.type, `${frag.sn}.${part?.index}`, took((part ?? frag).stats)));
    hls.on(Events.ERROR, (_, { details, error }) => write('error', details, error?.message));
    for (const kind of ['waiting', 'playing', 'seeking']) video.addEventListener(kind, () => write(kind));
  }

  return { follow, words, text: () => lines.join('\n') };
})();
