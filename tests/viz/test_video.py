"""Videos come out with the frames, size, rate and colours that went in."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mindreel.viz.video import write_comparison_gif, write_mp4


def _frames(count: int, height: int, width: int) -> torch.Tensor:
    """A white block that moves over coloured halves: uint8 (T, 3, H, W)."""
    frames = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    frames[:, 0, :, : width // 2] = 200
    frames[:, 2, :, width // 2 :] = 160
    for step in range(count):
        frames[step, :, 4:8, step : step + 4] = 255
    return frames


def _read(path) -> tuple[list[np.ndarray], av.VideoStream]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], stream


@pytest.mark.parametrize("as_array", [False, True])
def test_a_video_round_trip(tmp_path, as_array):
    frames = _frames(12, 16, 24)
    path = write_mp4(tmp_path / "new" / "a.mp4", frames.numpy() if as_array else frames, fps=20, scale=4)
    read, stream = _read(path)
    assert len(read) == 12 and read[0].shape == (64, 96, 3)
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == 20
    expected = frames[5].permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
    assert np.abs(read[5].astype(int) - expected).mean() < 6
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]  # no temporary file is left


def test_odd_sizes_and_fractional_rates(tmp_path):
    read, stream = _read(write_mp4(tmp_path / "odd.mp4", _frames(3, 15, 21), fps=12.5, scale=1))
    assert len(read) == 3 and read[0].shape == (16, 22, 3)
    assert stream.average_rate == 12.5


def test_wrong_frames_leave_the_old_file(tmp_path):
    path = write_mp4(tmp_path / "a.mp4", _frames(2, 16, 16), fps=10)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Expected uint8 frames, got float32"):
        write_mp4(path, _frames(2, 16, 16).float(), fps=10)
    with pytest.raises(ValueError, match=r"Expected frames \(T, 3, H, W\).*got shape \(2, 16, 16, 3\)"):
        write_mp4(path, _frames(2, 16, 16).permute(0, 2, 3, 1), fps=10)
    with pytest.raises(ValueError, match="at least one frame"):
        write_mp4(path, _frames(2, 16, 16)[:0], fps=10)
    with pytest.raises(ValueError, match="fps above 0, got scale=4, fps=0"):
        write_mp4(path, _frames(2, 16, 16), fps=0)
    assert path.read_bytes() == before


def test_a_comparison_shows_both_and_their_difference(tmp_path):
    real = _frames(5, 16, 24).numpy()
    imagined = real.copy()
    imagined[3, :, 4:8] = 0  # the block is missing from the fourth imagined frame
    path = write_comparison_gif(tmp_path / "new" / "a.gif", real, imagined, fps=10, scale=2)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (5, (3 * 48 + 12, 32 + 16), 100)
        gif.seek(2)
        same = np.asarray(gif.convert("RGB"))[16:]
        gif.seek(3)
        differing = np.asarray(gif.convert("RGB"))[16:]
    assert same[:, 108:].max() < 30 and (np.abs(same[:, :48].astype(int) - same[:, 54:102]) < 30).all()
    assert differing[8:16, 108 + 6 : 108 + 14].min() > 225 and differing[:8, 108:].max() < 30
    with pytest.raises(ValueError, match="got uint8 .5, 3, 16, 24. and uint8 .4"):
        write_comparison_gif(path, real, imagined[:4], fps=10)
