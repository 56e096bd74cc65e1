"""Receives by WHEP with aiortc, a client that gives REMB feedback only.

python whep_receive.py URL TOKEN VP8|H264 SECONDS [all|relay]

With "relay" it takes no other way than the first TURN server over UDP that the response names. Writes one line
of JSON: frames by kind, the size of the last picture, the type of the local candidate in use.
"""

import asyncio
import json
import re
import sys
import urllib.request
from urllib.parse import urljoin

from aiortc import (
    RTCConfiguration,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError


def post(url, token, sdp):
    headers = {"content-type": "application/sdp", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data=sdp.encode(), headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        links = response.headers.get_all("link") or []
        return urljoin(url, response.headers["location"]), links, response.read().decode()


def delete(location, token):
    headers = {"authorization": f"Bearer {token}"}
    request = urllib.request.Request(location, headers=headers, method="DELETE")
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status


def use_turn(ice, links):
    """Before candidates are gathered; aiortc itself takes servers only before there is an offer."""
    for link in links:
        found = re.match(r"<turn:([^:>]+):(\d+)\?transport=udp>;", link)
        if found:
            ice.turn_server = (found[1], int(found[2]))
            ice.turn_username, ice.turn_password = (re.search(rf'{name}="([^"]*)"', link)[1] for name in ("username", "credential"))
            return
    raise ValueError(f"no TURN server over UDP in {links}")


async def main(url, token, codec, seconds, policy="all"):
    seen = {"video": 0, "audio": 0, "width": 0, "height": 0, "last_second": 0}
    # No max-bundle: with it aiortc forgets the candidates of the first section when the second has none.
    pc = RTCPeerConnection(RTCConfiguration(iceTransportPolicy=RTCIceTransportPolicy(policy)))
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
    audio = pc.addTransceiver("audio", direction="recvonly")
    video = pc.addTransceiver("video", direction="recvonly")
    codecs = RTCRtpReceiver.getCapabilities("video").codecs
    wanted = (f"video/{codec}", "video/rtx")
    video.setCodecPreferences([c for c in codecs if c.mimeType in wanted])
    offer = await pc.createOffer()
    location, links, sdp = await asyncio.to_thread(post, url, token, offer.sdp)
    ices = [part.receiver.transport.transport.iceGatherer._connection for part in (audio, video)]
    if policy == "relay":
        for ice in ices:
            use_turn(ice, links)
    await pc.setLocalDescription(offer)
    await pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    await asyncio.sleep(end - loop.time())
    seen["state"] = pc.connectionState
    seen["local"] = next((pair.local_candidate.type for pair in ices[0]._nominated.values()), None)
    seen["deleted"] = await asyncio.to_thread(delete, location, token)
    await pc.close()
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), *sys.argv[5:]))
