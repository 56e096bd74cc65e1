"""Publishes a test picture (VP8) and tone by WHIP with GStreamer's webrtcbin over ICE-TCP alone: the
server is passive, this side connects (RFC 6544).

/usr/bin/python3 gst_publish.py URL TOKEN SECONDS

GStreamer makes RSA certificates, which our DTLS does not take; it is given one on P-256, as browsers have.
Needs openssl, Debian's own Python (python3-gst-1.0, gir1.2-gst-plugins-bad-1.0) and the plugins base, good, bad
and nice. Writes one line of JSON at the end.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PIPELINE = """
webrtcbin name=peer bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=15/1
  ! vp8enc deadline=1 keyframe-max-dist=15 ! rtpvp8pay picture-id-mode=2 pt=96
  ! application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000 ! peer.
audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=97
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000 ! peer.
"""

# PyGObject frees a reply, and the description inside it, while GStreamer still uses them.
keep = []


def certificate():
    with tempfile.TemporaryDirectory() as folder:
        key, cert = (os.path.join(folder, name) for name in ("key.pem", "cert.pem"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        made = ["openssl", "req", "-x509", *curve, "-nodes", "-subj", "/CN=gst", "-keyout", key, "-out", cert]
        subprocess.run(made, check=True, capture_output=True)
        with open(cert) as one, open(key) as other:
            return one.read() + other.read()


def with_fingerprint(sdp, pem):
    """The offer was made before the certificate was exchanged."""
    der = base64.b64decode(re.search("BEGIN CERTIFICATE-----(.*?)-----", pem, re.S)[1])
    fingerprint = hashlib.sha256(der).digest().hex(":").upper()
    return re.sub(r"(a=fingerprint:sha-256) \S+", rf"\1 {fingerprint}", sdp)


def post(url, token, sdp):
    headers = {"content-type": "application/sdp", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data=sdp.encode(), headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode()


def tcp_only(sdp):
    lines = sdp.splitlines()
    udp = [line for line in lines if line.startswith("a=candidate:") and " udp " in line]
    return "\r\n".join(line for line in lines if line not in udp) + "\r\n"


def answer_of(sdp):
    _, message = GstSdp.SDPMessage.new()
    GstSdp.sdp_message_parse_buffer(sdp.encode(), message)
    answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
    keep.extend((message, answer))
    return answer


def main(url, token, seconds):
    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE)
    peer = pipeline.get_by_name("peer")
    pem = certificate()

    def added(_pipeline, _bin, element):
        factory = element.get_factory()
        if factory and factory.get_name() == "dtlsdec":
            element.props.pem = pem

    pipeline.connect("deep-element-added", added)

    def offered(promise, *_):
        reply = promise.get_reply()
        offer = reply["offer"]
        keep.extend((promise, reply, offer))
        done = Gst.Promise.new()
        peer.emit("set-local-description", offer, done)
        done.interrupt()
        sdp = with_fingerprint(offer.sdp.as_text(), pem)
        answer = answer_of(tcp_only(post(url, token, sdp)))
        peer.emit("set-remote-description", answer, Gst.Promise.new())

    def needed(_):
        for index in range(2):
            peer.emit("get-transceiver", index).props.direction = GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(offered, None))

    peer.connect("on-negotiation-needed", needed)
    loop = GLib.MainLoop()
    pipeline.set_state(Gst.State.PLAYING)
    GLib.timeout_add(int(seconds * 1000), loop.quit)
    loop.run()
    state = peer.props
    print(json.dumps({"ice": state.ice_connection_state.value_nick, "state": state.connection_state.value_nick}), flush=True)
    os._exit(0)  # the finalisers of what was kept would crash


main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
