/** Loudness of a microphone for a meter. */

/** Reports 0 to 1 about twelve times a second until the returned function is called. */
export function watchLevel(track: MediaStreamTrack, report: (level: number) => void): () => void {
  const context = new AudioContext()
  const analyser = context.createAnalyser()
  analyser.fftSize = 512
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser)
  const samples = new Float32Array(analyser.fftSize)
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples)
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length
    // -60 dB reads as silence, -10 dB as full.
    report(Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50)))
  }, 80)
  return () => {
    clearInterval(timer)
    void context.close()
  }
}
