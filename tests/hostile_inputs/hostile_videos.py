"""Playlists, damaged containers and absurd times."""

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from hostile_cases import add, each

from mindreel.viz.video import write_mp4


def video(file: Path, frames: int = 12) -> bytes:
    write_mp4(file, torch.randint(256, (frames, 3, 16, 16), dtype=torch.uint8), fps=10, scale=2)
    return file.read_bytes()


def as_video(folder: Path, content: str | bytes) -> None:
    content = content.encode() if isinstance(content, str) else content
    (folder / "x.mp4").write_bytes(content)


def spoilt_video(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    as_video(folder, spoil(video(folder / "x.mp4")))


def boxes(pattern: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """Puts other bytes some way behind a box's name."""

    def spoil(content: bytes) -> bytes:
        at = content.index(pattern) + offset
        return content[:at] + value + content[at + len(value) :]

    return spoil


def far_apart(folder: Path, step: int) -> None:
    with av.open(str(folder / "x.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1000)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuvj420p"
        for time_shown in (0, 1, 2, step):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            frame.pts = time_shown
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def fifo(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / name)


VIDEOS: dict[str, object] = {
    "empty": b"",
    "text": "no video",
    "noise": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
    "box of 4 GB": b"\xff\xff\xff\xffftypisom" + bytes(200),
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n../secret/secret.mp4\n#EXT-X-ENDLIST\n",
    "hls of the network": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile ../secret/secret.mp4\n",
    "concat of a file beside": "ffconcat version 1.0\nfile y.bin\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "smooth streaming": '<SmoothStreamingMedia MajorVersion="2"></SmoothStreamingMedia>',
    "rtsp": "[Reference]\nRef1=rtsp://127.0.0.1/x\n",
}
each("data", as_video, **{f"video: {name}": content for name, content in VIDEOS.items()})
each("background", as_video, **VIDEOS)
SPOILT: dict[str, object] = {
    "cut to a tenth": lambda content: content[: len(content) // 10],
    "cut in half": lambda content: content[: len(content) // 2],
    "pictures are zeros": lambda content: content[: content.index(b"mdat") + 4] + bytes(len(content)),
    "2^31 samples": boxes(b"stsz", 8, b"\x00\x00\x00\x01\x7f\xff\xff\xff"),
    "2^29 samples in a chunk": lambda content: boxes(b"stsc", 16, b"\x20\x00\x00\x00")(
        boxes(b"stsz", 8, b"\x00\x00\x00\x01\x20\x00\x00\x00")(content)
    ),
    "no time base": boxes(b"mdhd", 16, bytes(4)),
    "times of 2^31": boxes(b"stts", 16, b"\x7f\xff\xff\xff"),
}
each("data", spoilt_video, **{f"video: {name}": spoil for name, spoil in SPOILT.items()})
each("data", far_apart, **{"video: a day apart": 10**8, "video: 2^40 apart": 2**40})
each("data", fifo, **{"video: pipe": "x.mp4", "hdf5: pipe": "x.h5"})
each("background", fifo, pipe="x.mp4")
add("data", "video: folder", lambda folder: (folder / "x.mp4").mkdir())
