// Runs in every page before its own scripts: records the page's peer connections and sockets, and
// applies `window.plenumTestOptions` ({ codec, codecFirst, decodesOnly, tcpOnly, ipv6Only, turnOver,
// timeFirstFrame }) where the browser has no switch for them.
(() => {
  const options = window.plenumTestOptions ?? {};
  const test = (window.plenumTest = { pcs: [], sockets: [], firstFrameAt: null });
  const NativePeerConnection = window.RTCPeerConnection;
  const NativeWebSocket = window.WebSocket;

  window.RTCPeerConnection = class RTCPeerConnection extends NativePeerConnection {
    constructor(...args) {
      super(...args);
      test.pcs.push(this);
      if (options.timeFirstFrame) this.addEventListener('track', (event) => timeFirstFrame(event.track));
    }
    setConfiguration(configuration) {
      super.setConfiguration({ ...configuration, iceServers: configuration.iceServers?.map(reachable) });
    }
    createOffer(...args) {
      preferCodec(this);
      return super.createOffer(...args);
    }
    setLocalDescription(description) {
      if (!description) preferCodec(this);
      return description ? super.setLocalDescription(description) : super.setLocalDescription();
    }
    setRemoteDescription(description) {
      const isLeftOut = (line) => {
        const [, protocol, address] = /^a=candidate:\S+ \d+ (\S+) \d+ (\S+) /i.exec(line) ?? [];
        return (options.tcpOnly && protocol === 'udp') || (options.ipv6Only && protocol && !address.includes(':'));
      };
      const sdp = description.sdp.split('\r\n').filter((line) => !isLeftOut(line)).join('\r\n');
      return super.setRemoteDescription({ type: description.type, sdp });
    }
  };

  window.WebSocket = class WebSocket extends NativeWebSocket {
    constructor(...args) {
      super(...args);
      const record = { socket: this, sent: [], received: [] };
      test.sockets.push(record);
      this.addEventListener('message', (event) => note(record.received, event.data));
      this.records = record;
    }
    send(text) {
      note(this.records.sent, text);
      super.send(text);
    }
  };

  function note(list, text) {
    if (typeof text !== 'string' || list.length > 2000) return;
    try {
      list.push(JSON.parse(text));
    } catch {
      list.push({ t: 'not JSON' });
    }
  }

  /** An ICE server with the URLs that lead there over `turnOver`: "udp", "tcp" or "tls". */
  function reachable(server) {
    const over = (url) => (url.startsWith('turns:') ? 'tls' : /transport=(\w+)/.exec(url)?.[1] ?? 'udp');
    const urls = [server.urls].flat().filter((url) => !options.turnOver || over(url) === options.turnOver);
    return { ...server, urls };
  }

  /** Transceivers whose order was set once, as a publisher's own choice: the page may change it later. */
  const ordered = new WeakSet();

  function preferCodec(pc) {
    for (const transceiver of pc.getTransceivers()) {
      if (transceiver.receiver.track.kind !== 'video') continue;
      const { direction } = transceiver;
      const sends = direction === 'sendrecv' || direction === 'sendonly';
      const only = sends ? options.codec : direction === 'recvonly' && options.decodesOnly;
      if (only) {
        transceiver.setCodecPreferences(videoCodecs((is) => is(only) || is('rtx')));
      } else if (sends && options.codecFirst && !ordered.has(transceiver)) {
        ordered.add(transceiver);
        const first = (is) => is(options.codecFirst);
        transceiver.setCodecPreferences([...videoCodecs(first), ...videoCodecs((is) => !first(is))]);
      }
    }
  }

  function videoCodecs(choose) {
    const { codecs } = RTCRtpReceiver.getCapabilities('video');
    return codecs.filter(({ mimeType }) => choose((name) => mimeType.toLowerCase() === `video/${name}`.toLowerCase()));
  }

  async function timeFirstFrame(track) {
    if (track.kind !== 'video' || test.firstFrameAt !== null) return;
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    const { value: frame } = await reader.read();
    test.firstFrameAt ??= performance.now();
    frame?.close();
    await reader.cancel();
  }

  /** What each peer connection receives and sends now, over which candidate pair, and which candidates it has. */
  test.stats = async () => {
    const seen = { inbound: [], outbound: [], pairs: [], candidates: [], states: test.pcs.map((pc) => pc.connectionState) };
    for (const pc of test.pcs) {
      if (pc.connectionState === 'closed') continue;
      const report = await pc.getStats();
      const codec = (stat) => report.get(stat.codecId)?.mimeType?.split('/')[1]?.toUpperCase() ?? null;
      report.forEach((stat) => {
        if (stat.type === 'inbound-rtp') {
          seen.inbound.push({
            kind: stat.kind, mid: stat.mid, ssrc: stat.ssrc, codec: codec(stat),
            packets: stat.packetsReceived ?? 0, frames: stat.framesDecoded ?? 0,
            width: stat.frameWidth ?? 0, height: stat.frameHeight ?? 0,
            energy: stat.totalAudioEnergy ?? 0, freezes: stat.freezeCount ?? 0,
          });
        } else if (stat.type === 'outbound-rtp') {
          seen.outbound.push({
            kind: stat.kind, rid: stat.rid ?? null, codec: codec(stat), frames: stat.framesEncoded ?? 0,
            width: stat.frameWidth ?? 0, height: stat.frameHeight ?? 0, bytes: stat.bytesSent ?? 0,
          });
        } else if (stat.type === 'local-candidate') {
          seen.candidates.push(stat.candidateType);
        } else if (stat.type === 'transport' && stat.selectedCandidatePairId) {
          const pair = report.get(stat.selectedCandidatePairId);
          const [local, remote] = [report.get(pair?.localCandidateId), report.get(pair?.remoteCandidateId)];
          seen.pairs.push({
            protocol: local?.protocol, local: local?.candidateType, relay: local?.relayProtocol ?? null,
            remote: remote?.candidateType, address: remote?.address, port: remote?.port,
          });
        }
      });
    }
    return seen;
  };

  let ear;
  const heard = new WeakSet();

  /** The pitch in Hz of the loudest tone among all that is received now; 0 in silence. */
  test.pitch = async () => {
    if (!ear) {
      const context = new AudioContext();
      ear = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
    }
    await ear.context.resume();
    for (const { track } of test.pcs.flatMap((pc) => pc.getReceivers())) {
      if (track.kind !== 'audio' || track.readyState !== 'live' || heard.has(track)) continue;
      heard.add(track);
      ear.context.createMediaStreamSource(new MediaStream([track])).connect(ear);
    }
    const levels = new Float32Array(ear.frequencyBinCount);
    ear.getFloatFrequencyData(levels);
    const loudest = levels.indexOf(Math.max(...levels));
    return levels[loudest] > -60 ? Math.round(loudest * ear.context.sampleRate / ear.fftSize) : 0;
  };

  /** A number that changes when a picture changes, for each `<video>` that shows one. */
  test.pictures = () =>
    [...document.querySelectorAll('video')].filter((video) => video.videoWidth > 0).map((video) => {
      const canvas = document.createElement('canvas');
      canvas.width = 64;
      canvas.height = 48;
      const context = canvas.getContext('2d', { willReadFrequently: true });
      context.drawImage(video, 0, 0, 64, 48);
      const bytes = context.getImageData(0, 0, 64, 48).data;
      let hash = 0;
      for (let i = 0; i < bytes.length; i += 4) hash = (hash * 31 + bytes[i] * 7 + bytes[i + 1] * 3 + bytes[i + 2]) | 0;
      return hash;
    });
})();
