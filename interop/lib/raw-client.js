// Runs in a blank page: the smallest clients of the outside contract, for tests that must say
// exactly what is offered and asked. `RawClient` speaks `plenum.v1`; `whip` and `whep` are fetches.
window.fakeMedia = ({ width = 640, height = 360, fps = 15, audio = true } = {}) =>
  navigator.mediaDevices.getUserMedia({
    video: { width: { exact: width }, height: { exact: height }, frameRate: fps },
    audio: audio && { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });

/** Plays a received track in an element of its own, so that it is decoded and can be looked at. */
window.play = (track) => {
  const element = document.createElement(track.kind);
  element.autoplay = true;
  element.playsInline = true;
  element.muted = track.kind === 'video';
  element.srcObject = new MediaStream([track]);
  document.body.append(element);
  element.play().catch(() => {});
};

window.RawClient = class RawClient {
  constructor({ audioSlots = 2, videoSlots = 2 } = {}) {
    this.events = [];
    this.tracks = new Map(); // track id -> { identity, ... } of the others
    this.slots = {}; // mid -> track id
    this.data = [];
    this.requests = new Map();
    this.lastId = 0;
    this.publish = [];
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.pc.addEventListener('track', (event) => play(event.track));
    this.channels = {
      reliable: this.pc.createDataChannel('reliable', { ordered: true }),
      lossy: this.pc.createDataChannel('lossy', { ordered: false, maxRetransmits: 0 }),
    };
    for (const [name, channel] of Object.entries(this.channels)) {
      channel.binaryType = 'arraybuffer';
      channel.addEventListener('message', (event) => this.data.push({ channel: name, ...unframe(event.data) }));
    }
    for (let i = 0; i < audioSlots; i += 1) this.pc.addTransceiver('audio', { direction: 'recvonly' });
    for (let i = 0; i < videoSlots; i += 1) this.pc.addTransceiver('video', { direction: 'recvonly' });
  }

  /** Adds a track to the next offer; returns its transceiver. */
  addTrack(track, { source, sendEncodings, width, height } = {}) {
    const transceiver = this.pc.addTransceiver(track, { direction: 'sendonly', sendEncodings });
    this.publish.push({ transceiver, source, width, height, layers: sendEncodings?.length ?? 1 });
    return transceiver;
  }

  async offer() {
    await this.pc.setLocalDescription();
    this.lastId += 1;
    const publish = this.publish.map(({ transceiver, source, width, height }) => ({
      mid: transceiver.mid, source, name: source, muted: false, width, height,
    }));
    return { id: this.lastId, sdp: this.pc.localDescription.sdp, publish };
  }

  /** Joins with the first offer in `hello`; resolves with `welcome`. */
  async join(url, token, { autoSubscribe = true } = {}) {
    const offer = await this.offer();
    this.socket = new WebSocket(`${url.replace(/^http/, 'ws')}/v1/signal`, 'plenum.v1');
    const welcomed = new Promise((resolve, reject) => {
      this.welcomed = resolve;
      this.refused = reject;
    });
    this.socket.addEventListener('message', (event) => this.handle(JSON.parse(event.data)));
    this.socket.addEventListener('close', (event) => this.refused(new Error(`closed ${event.code}`)));
    await new Promise((resolve, reject) => {
      this.socket.addEventListener('open', resolve);
      this.socket.addEventListener('error', () => reject(new Error('the socket did not open')));
    });
    const sdk = { name: 'raw', version: '0', platform: 'test' };
    this.send({ t: 'hello', v: [1], token, sdk, features: ['slots'], autoSubscribe, roster: 'all', offer });
    return welcomed;
  }

  async renegotiate() {
    const answer = await this.request({ t: 'offer', ...(await this.offer()) });
    await this.answered(answer);
    return answer;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  request(message) {
    const id = message.id ?? (this.lastId += 1);
    this.send({ ...message, id });
    return new Promise((resolve, reject) => this.requests.set(id, { resolve, reject }));
  }

  async answered(answer) {
    await this.pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    this.assign(answer.slots);
  }

  assign(slots) {
    for (const [mid, slot] of Object.entries(slots?.set ?? slots ?? {})) {
      if (slot) this.slots[mid] = slot.track;
      else delete this.slots[mid];
    }
  }

  async handle(message) {
    this.events.push(message);
    if (message.t === 'welcome') {
      this.welcome = message;
      for (const participant of message.participants ?? []) this.joined(participant);
      this.assign(message.slots);
      if (message.answer) await this.answered(message.answer);
      this.welcomed(message);
    } else if (message.t === 'joined') this.joined(message.p);
    else if (message.t === 'published') this.tracks.set(message.track.id, message.track);
    else if (message.t === 'unpublished') this.tracks.delete(message.track);
    else if (message.t === 'slots') this.assign(message.set);
    else if (message.t === 'need') await this.addSlots(message);
    else if (message.t === 'err' && message.id === undefined) this.refused(new Error(message.code));
    else if (['ok', 'err', 'answer'].includes(message.t)) {
      const { resolve, reject } = this.requests.get(message.id) ?? {};
      this.requests.delete(message.id);
      if (message.t === 'err') (reject ?? this.refused)(new Error(message.code));
      else resolve?.(message);
    }
  }

  joined(participant) {
    for (const track of participant?.tracks ?? []) this.tracks.set(track.id, track);
  }

  async addSlots({ audio = 0, video = 0 }) {
    const count = (kind) =>
      this.pc.getTransceivers().filter((t) => t.direction === 'recvonly' && t.receiver.track.kind === kind).length;
    for (let i = count('audio'); i < audio; i += 1) this.pc.addTransceiver('audio', { direction: 'recvonly' });
    for (let i = count('video'); i < video; i += 1) this.pc.addTransceiver('video', { direction: 'recvonly' });
    await this.renegotiate();
  }

  /** Sends `payload` (text) over the channel `reliable` or `lossy`. */
  sendData(channel, header, payload) {
    this.channels[channel].send(frame(header, payload));
  }

  close() {
    this.socket?.close();
    this.pc.close();
  }
};

/** A data message: u16 length, that many bytes of JSON, the payload. */
function frame(header, payload) {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const body = new TextEncoder().encode(payload);
  const bytes = new Uint8Array(2 + json.length + body.length);
  new DataView(bytes.buffer).setUint16(0, json.length);
  bytes.set(json, 2);
  bytes.set(body, 2 + json.length);
  return bytes;
}

function unframe(buffer) {
  const length = new DataView(buffer).getUint16(0);
  const text = (from, to) => new TextDecoder().decode(buffer.slice(from, to));
  return { ...JSON.parse(text(2, 2 + length)), payload: text(2 + length) };
}

/**
 * One WHIP or WHEP exchange (RFC 9725); resolves with status, location and the answer. The offer is sent before
 * candidates are gathered, so that the relays which the response names are known by then; `gatherFirst` waits for
 * all of them before the answer is applied.
 */
async function exchange(pc, url, token, { gatherFirst = false } = {}) {
  const offer = await pc.createOffer();
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/sdp', authorization: `Bearer ${token}` },
    body: offer.sdp,
  });
  const body = await response.text();
  if (response.status !== 201) throw new Error(`${response.status} ${body}`);
  const iceServers = linkedServers(response.headers.get('link') ?? '');
  if (iceServers.length) pc.setConfiguration({ ...pc.getConfiguration(), iceServers });
  await pc.setLocalDescription(offer);
  while (gatherFirst && pc.iceGatheringState !== 'complete') {
    await new Promise((resolve) => pc.addEventListener('icegatheringstatechange', resolve, { once: true }));
  }
  await pc.setRemoteDescription({ type: 'answer', sdp: body });
  return new URL(response.headers.get('location'), url).href;
}

/** The ICE servers of `Link` headers (RFC 9725 §4.6). */
function linkedServers(links) {
  return [...links.matchAll(/<([^>]*)>((?:; *[\w-]+="[^"]*")*)/g)].flatMap(([, urls, rest]) => {
    const parameters = Object.fromEntries([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    const { rel, username, credential } = parameters;
    return rel === 'ice-server' ? [{ urls: [urls], username, credential }] : [];
  });
}

window.whip = async (url, token, media) => {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const stream = await fakeMedia(media);
  for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
  return exchange(pc, url, token);
};

window.whep = async (url, token, { iceTransportPolicy = 'all', gatherFirst } = {}) => {
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceTransportPolicy });
  pc.addEventListener('track', (event) => play(event.track));
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.addTransceiver('video', { direction: 'recvonly' });
  return exchange(pc, url, token, { gatherFirst });
};

/** A track of sound that never pauses; `tone.gain` silences it. */
window.tone = (frequency = 440) => {
  const context = new AudioContext();
  const gain = new GainNode(context, { gain: 0.3 });
  const out = new MediaStreamAudioDestinationNode(context);
  const oscillator = new OscillatorNode(context, { frequency });
  oscillator.connect(gain).connect(out);
  oscillator.start();
  window.tone.gain = gain.gain;
  return out.stream.getAudioTracks()[0];
};

/** Notes in `sent`, which has transceivers by source, which ids their tracks got. */
window.nameTracks = ({ published }) => {
  for (const transceiver of Object.values(window.sent)) {
    const found = published.find(({ mid }) => mid === transceiver.mid);
    if (found) transceiver.id = found.track;
  }
};
