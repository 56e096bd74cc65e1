"""Receives by WHEP with aiortc, a client that gives REMB feedback only.

python whep_receive.py URL TOKEN VP8|H264 SECONDS

Writes one line of JSON: frames by kind, the size of the last picture, how its brightness changed.
"""

import asyncio
import json
import sys
import urllib.request
from urllib.parse import urljoin

from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError


def post(url, token, sdp):
    headers = {"content-type": "application/sdp", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data=sdp.encode(), headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return urljoin(url, response.headers["location"]), response.read().decode()


def delete(location, token):
    headers = {"authorization": f"Bearer {token}"}
    request = urllib.request.Request(location, headers=headers, method="DELETE")
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status


async def main(url, token, codec, seconds):
    seen = {"video": 0, "audio": 0, "width": 0, "height": 0, "last_second": 0}
    pc = RTCPeerConnection()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def count(track):
        try:
            while True:
                frame = await track.recv()
                seen[track.kind] += 1
                if track.kind == "video":
                    seen["width"], seen["height"] = frame.width, frame.height
                    seen["last_second"] += loop.time() > end - 1
        except MediaStreamError:
            pass

    pc.on("track", lambda track: asyncio.ensure_future(count(track)))
    pc.addTransceiver("audio", direction="recvonly")
    video = pc.addTransceiver("video", direction="recvonly")
    codecs = RTCRtpReceiver.getCapabilities("video").codecs
    wanted = (f"video/{codec}", "video/rtx")
    video.setCodecPreferences([c for c in codecs if c.mimeType in wanted])
    await pc.setLocalDescription(await pc.createOffer())
    location, sdp = await asyncio.to_thread(post, url, token, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    await asyncio.sleep(end - loop.time())
    seen["state"] = pc.connectionState
    seen["deleted"] = await asyncio.to_thread(delete, location, token)
    await pc.close()
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
