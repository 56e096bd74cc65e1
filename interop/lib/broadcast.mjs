// Broadcasts of a server under test: the room API, playlists, and who publishes in the room.
import assert from 'node:assert/strict';
import HlsParser from 'hls-parser';
import { eventually } from './wait.mjs';

HlsParser.setOptions({ strictMode: true });

/** Begins a broadcast of `room`; `wanted` is the body of the request. */
export async function startBroadcast(server, room, wanted = {}) {
  const authorization = `Bearer ${await server.token(room, 'studio', '--admin')}`;
  const call = async (method, path, body) => {
    const headers = { authorization, ...(body && { 'content-type': 'application/json' }) };
    const response = await fetch(`${server.url}${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  };
  const { id, hls } = await call('POST', `/v1/rooms/${room}/broadcasts`, wanted);
  const path = `/v1/rooms/${room}/broadcasts/${id}`;
  return {
    id,
    url: `${server.url}${hls.url}`,
    view: () => call('GET', path),
    follow: (participant) => call('PATCH', path, { follow: 'participant', participant }),
    change: (change) => call('PATCH', path, change),
    end: () => call('DELETE', path),
    /** Waits until it is in this state, and on the air is what `onAir` has. */
    is(state, onAir = {}) {
      return eventually(`the broadcast to be ${state} with ${JSON.stringify(onAir)}`, async () => {
        const view = await call('GET', path);
        const fits = Object.entries(onAir).every(([name, value]) => view.onAir[name] === value);
        return { ok: view.state === state && fits, ...view };
      });
    },
  };
}

/** Fetches a playlist and has it checked by a strict parser; `text` and what the parser made of it. */
export async function playlist(url, options) {
  const response = await fetch(url, options);
  const text = await response.text();
  assert.equal(response.status, 200, `${url}: ${text}`);
  assert.equal(response.headers.get('content-type'), 'application/vnd.apple.mpegurl');
  return { url, text, response, ...parse(text) };
}

/** What a strict parser makes of a playlist. */
export function parse(text) {
  try {
    return { parsed: HlsParser.parse(text) };
  } catch (error) {
    throw new Error(`${error.message} in\n${text}`);
  }
}

/** A broadcast's multivariant playlist and the media playlists that it names, all checked. */
export async function playlists(url) {
  const entry = await playlist(url);
  const uris = [...entry.text.matchAll(/^[^#\n].*$/gm)].map(([line]) => line);
  const audio = [...entry.text.matchAll(/^#EXT-X-MEDIA:.*URI="([^"]*)"/gm)].map(([, uri]) => uri);
  const media = [];
  for (const uri of [...uris, ...audio]) media.push(await playlist(new URL(uri, url).href));
  assertDiscontinuitiesMatch(media);
  return { entry, media, rungs: media.slice(0, uris.length), audio: media.slice(uris.length) };
}

/**
 * A discontinuity is at one time in all media playlists: hls.js waits for ever if it begins with sound behind one and
 * pictures before it. What came too late for it is a part late at most.
 */
function assertDiscontinuitiesMatch(media) {
  const first = new Map();
  for (const { url, text, parsed } of media) {
    for (const { discontinuity, mediaSequenceNumber, programDateTime } of parsed.segments) {
      if (!discontinuity) continue;
      const at = programDateTime.getTime();
      const apartMs = at - (first.get(mediaSequenceNumber) ?? at);
      if (!first.has(mediaSequenceNumber)) first.set(mediaSequenceNumber, at);
      assert.ok(Math.abs(apartMs) <= 250, `${url}: segment ${mediaSequenceNumber} is ${apartMs} ms off\n${text}`);
    }
  }
}

/** Every URI in a playlist, on lines of its own and in attributes. */
export const urisIn = (text) => text.split('\n').flatMap((line) =>
  line.startsWith('#') ? [...line.matchAll(/URI="([^"]*)"/g)].map(([, uri]) => uri) : line ? [line] : []);

/**
 * A page that publishes in `room` over plain signaling, by RawClient: a camera and a tone that never pauses, either
 * of which may be left out. `layers`: how many encodings, the last one in full size.
 */
export async function publisher(chromium, server, room, identity, options = {}) {
  const { codec = 'H264', width = 320, height = 180, layers = 1, video = true, audio = true } = options;
  const page = await chromium.rawPage(server.url, { codec });
  const token = await server.token(room, identity);
  await page.evaluate(async ([url, jwt, wanted]) => {
    const client = (window.client = new window.RawClient({ audioSlots: 0, videoSlots: 0 }));
    window.sent = {};
    if (wanted.video) {
      const stream = await window.fakeMedia({ width: wanted.width, height: wanted.height, audio: false });
      const size = { width: wanted.width, height: wanted.height };
      window.sent.camera = client.addTrack(stream.getVideoTracks()[0], { source: 'camera', ...size, sendEncodings: wanted.encodings });
    }
    if (wanted.audio) window.sent.microphone = client.addTrack(window.tone(), { source: 'microphone' });
    const { answer } = await client.join(url, jwt, { autoSubscribe: false });
    window.nameTracks(answer);
  }, [server.url, token, { width, height, video, audio, encodings: encodings(layers) }]);
  return page;
}

function encodings(layers) {
  const all = [['q', 4, 150_000], ['h', 2, 400_000], ['f', 1, 1_200_000]].slice(-layers);
  return layers > 1 ? all.map(([rid, scaleResolutionDownBy, maxBitrate]) => ({ rid, scaleResolutionDownBy, maxBitrate })) : undefined;
}

/** Has a publisher leave the room; a page that is only closed would be waited for. */
export async function leave(page) {
  await page.evaluate(() => window.client.send({ t: 'leave' }));
  await page.close();
}

/** Mutes a track of a publisher, by its source, or lets it be heard or seen again. */
export const mute = (page, source, muted) => page.evaluate(([name, isMuted]) => {
  const { id } = window.sent[name];
  return window.client.request({ t: 'track', track: id, muted: isMuted });
}, [source, muted]);

/** Stops sending a track of a publisher, and ends it. */
export const unpublish = (page, source) => page.evaluate(async (name) => {
  const { sender, id } = window.sent[name];
  await sender.replaceTrack(null);
  await window.client.request({ t: 'unpublish', track: id });
}, source);
