"""Videos as people have them: order, turns, cuts and times, against the pictures that were written into them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mindreel.encoders.data.clips import find_recordings
from mindreel.video_input import UnreadableVideoError, read_frames, scan_video, upright

HEIGHT, WIDTH, COUNT = 32, 64, 40
SHADES = [20 + 50 * (t * 7 % 5) for t in range(COUNT)]
"""Neighbours differ, so that no frame is taken for another."""


def write(
    file: Path,
    codec: str = "libx264",
    times: list[int] | None = None,
    base: Fraction = Fraction(1, 30),
    options: dict[str, str] | None = None,
    turn: int = 0,
    rate: int | None = 30,
) -> Path:
    """A video of uniform pictures, at `times` counted in `base` seconds, the left half a little darker."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = WIDTH, HEIGHT, "yuv420p", base
        stream.codec_context.time_base = base
        if turn:
            stream.set_display_rotation(turn)
        for time, shade in zip(times or range(COUNT), SHADES, strict=False):
            picture = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
            picture[:, : WIDTH // 2] -= 20
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def cut(file: Path, source: Path, first: int, last: int | None = None) -> Path:
    """Packets `first` to `last` of a video in another file, as cutting without encoding writes them."""
    with av.open(str(source)) as given, av.open(str(file), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in list(given.demux(given.streams.video[0]))[first:last]:
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    return file


def shades(file: Path, first: int = 0, last: int | None = None) -> list[int]:
    """The nearest of the shades that were written, in the right half of each frame."""
    times = scan_video(file)
    frames = read_frames(file, times, first, times.frames if last is None else last, upright)
    return [min(set(SHADES), key=lambda shade: abs(shade - frame[4:-4, -12:].mean())) for frame in frames]


B_FRAMES = {"bf": "3", "g": "12", "x264-params": "b-adapt=0:scenecut=0"}


@pytest.mark.parametrize("name", ["x.avi", "x.mp4", "x.mkv", "x.mov"])
def test_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, options=B_FRAMES)
    assert shades(file) == SHADES
    for first, last in ((0, 1), (0, 2), (5, 9), (11, 14), (13, 30), (39, 40)):
        assert shades(file, first, last) == SHADES[first:last]


@pytest.mark.parametrize(("name", "codec"), [("x.avi", "mpeg4"), ("x.mpg", "mpeg1video"), ("x.avi", "mpeg2video")])
def test_other_codecs(tmp_path: Path, name: str, codec: str) -> None:
    file = write(tmp_path / name, codec, options={"bf": "2", "b_strategy": "0"})
    assert shades(file) == SHADES and shades(file, 17, 29) == SHADES[17:29]


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_turned_videos_stand_upright(tmp_path: Path, turn: int) -> None:
    """ffplay turns by the same matrix: its `rotation` counts counter-clockwise, as numpy's rot90 does."""
    file = write(tmp_path / "x.mp4", turn=turn)
    with av.open(str(file)) as container:
        decoded = next(container.decode(video=0))
        assert (decoded.rotation - turn) % 360 == 0
        expected = np.rot90(decoded.to_ndarray(format="rgb24"), turn // 90)
    (frame,) = read_frames(file, scan_video(file), 0, 1, upright)
    np.testing.assert_array_equal(frame, expected)
    small = read_frames(file, scan_video(file), 0, 1, lambda one: upright(one, (24, 12)))[0]
    assert small.shape == (24, 12, 3)
    clip = find_recordings(file).recordings[0].read(0, 2, 16)[0].float()
    halves = clip[:, :, :6].mean(), clip[:, :, -6:].mean(), clip[:, :6].mean(), clip[:, -6:].mean()
    left, right, top, bottom = (float(half) for half in halves)
    assert {90: bottom < top, 180: right < left, -90: top < bottom}[turn]


def test_mirrored_and_slanted_videos(tmp_path: Path) -> None:
    file = write(tmp_path / "x.mp4")
    with av.open(str(file)) as given, av.open(str(tmp_path / "flipped.mp4"), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        stream.set_display_rotation(0, hflip=True)
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    plain, mirrored = (read_frames(one, scan_video(one), 0, 1, upright)[0] for one in (file, tmp_path / "flipped.mp4"))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    slanted = write(tmp_path / "slanted.mp4", turn=29)
    with pytest.raises(UnreadableVideoError, match="turned by 2[89] degrees: expected quarter turns"):
        read_frames(slanted, scan_video(slanted), 0, 1, upright)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
@pytest.mark.parametrize(("first", "last"), [(12, None), (24, 33), (0, 31)])
def test_cut_at_a_key_frame(tmp_path: Path, name: str, first: int, last: int | None) -> None:
    whole = write(tmp_path / "whole.mp4", options=B_FRAMES)
    file = cut(tmp_path / name, whole, first, last)
    found = shades(file)
    # Of a group of pictures that is cut in two, those that lack their neighbours are dropped or grey.
    sound = 12 * ((last or COUNT) // 12) - first if last else COUNT - first
    assert found[:sound] == SHADES[first : first + sound]
    recording = find_recordings(file).recordings[0]
    assert recording.frames == len(found) and len(recording.read(0, recording.frames, 8)) == recording.frames


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4"])
def test_cut_between_key_frames_begins_at_the_next(tmp_path: Path, name: str) -> None:
    file = cut(tmp_path / name, write(tmp_path / "whole.mp4", options=B_FRAMES | {"bf": "0"}), 7)
    assert shades(file) == SHADES[12:]


def test_a_browsers_milliseconds(tmp_path: Path) -> None:
    """Times are of 33.3 ms, rounded to 5 ms and without a rate; each is its own frame."""
    times = [5 * round(1000 * t / 30 / 5) for t in range(COUNT)]
    file = write(tmp_path / "x.webm", "libvpx", times, Fraction(1, 1000), {"deadline": "realtime"}, rate=None)
    found = scan_video(file)
    assert found.frames == COUNT and abs(float(found.rate) - 30) < 0.3
    assert shades(file) == SHADES and shades(file, 13, 22) == SHADES[13:22]


def test_gaps_are_shown_for_as_long_as_they_stand(tmp_path: Path) -> None:
    times = [33 * t + (330 if t >= 20 else 0) for t in range(COUNT)]  # the 20th stands for 11 frames
    file = write(tmp_path / "x.webm", "libvpx", times, Fraction(1, 1000), rate=None)
    expected = SHADES[:20] + 10 * [SHADES[19]] + SHADES[20:]
    assert shades(file) == expected
    assert shades(file, 24, 32) == expected[24:32]  # from within the gap


def test_pictures_far_apart_are_no_video(tmp_path: Path) -> None:
    times = [*range(10), 10**9]
    file = write(tmp_path / "x.mkv", "libx264", times, Fraction(1, 1000), {"bf": "0"}, rate=None)
    with pytest.raises(UnreadableVideoError, match="its 11 pictures are spread over 1e.06 seconds"):
        scan_video(file)


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    """Of the streams of a file, that of a cover is passed over."""
    with av.open(str(write(tmp_path / "x.mp4"))) as given, av.open(str(tmp_path / "y.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream_from_template(given.streams.video[0])
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
        container.mux(cover.encode())
    assert shades(tmp_path / "y.mp4") == SHADES


PLAYLISTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat.mkv": "ffconcat version 1.0\nfile {}\n",
    "dash.webm": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>{}',
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_are_no_videos(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "secret.mp4").rename(tmp_path / "x" / "secret.bin")
    (tmp_path / "x" / name).write_text(PLAYLISTS[name].format("secret.bin"))
    found = find_recordings(tmp_path / "x")
    assert not found.recordings and list(found.skipped) == [str(tmp_path / "x" / name)]
