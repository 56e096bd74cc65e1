// node wrtc-publish.mjs URL TOKEN: publishes VP8 in three layers (q, h, f) by WHIP with libwebrtc, and
// writes one line of JSON a second: the frames encoded of each layer.
import wrtc from '@roamhq/wrtc';

const { RTCPeerConnection, RTCRtpReceiver, nonstandard } = wrtc;
const [url, token] = process.argv.slice(2);
const WIDTH = 1280;
const HEIGHT = 720;
const FPS = 15;

const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
const source = new nonstandard.RTCVideoSource();
const transceiver = pc.addTransceiver(source.createTrack(), {
  direction: 'sendonly',
  sendEncodings: [
    { rid: 'q', scaleResolutionDownBy: 4 },
    { rid: 'h', scaleResolutionDownBy: 2 },
    { rid: 'f', scaleResolutionDownBy: 1 },
  ],
});
const codecs = RTCRtpReceiver.getCapabilities('video').codecs;
transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => /vp8|rtx/i.test(mimeType)));
await pc.setLocalDescription(await pc.createOffer());
const response = await fetch(url, {
  method: 'POST',
  headers: { 'content-type': 'application/sdp', authorization: `Bearer ${token}` },
  body: pc.localDescription.sdp,
});
const body = await response.text();
if (response.status !== 201) throw new Error(`${response.status} ${body}`);
await pc.setRemoteDescription({ type: 'answer', sdp: body });

const data = new Uint8ClampedArray((WIDTH * HEIGHT * 3) / 2).fill(128);
let frame = 0;
setInterval(() => {
  // A bright bar that walks down the picture.
  data.fill(40, 0, WIDTH * HEIGHT);
  const top = (frame * 8) % (HEIGHT - 60);
  data.fill(220, WIDTH * top, WIDTH * (top + 60));
  frame += 1;
  source.onFrame({ width: WIDTH, height: HEIGHT, data });
}, 1000 / FPS);

setInterval(async () => {
  const layers = {};
  for (const stat of (await pc.getStats()).values()) {
    const isVideo = stat.type === 'outbound-rtp' && (stat.kind ?? stat.mediaType) === 'video';
    if (isVideo && stat.rid) layers[stat.rid] = stat.framesEncoded;
  }
  console.log(JSON.stringify({ state: pc.connectionState, layers }));
}, 1000);

process.on('SIGINT', () => process.exit(0));
