"""What moves behind the scene."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from mindreel.envs import RandomizeConfig, RenderConfig, make_env
from mindreel.envs.generator import WorldGenerator
from mindreel.envs.warp.backgrounds import Noise, Videos, patterns

CPU = torch.device("cpu")
EVERY = torch.ones(3, dtype=torch.bool)


def write_video(path, shades: list[int], rate: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for shade in shades:
            picture = np.full((32, 32, 3), shade, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_noise_is_smooth_moves_and_differs():
    noise = Noise(3, 48, 64, CPU)
    noise.reset(EVERY, WorldGenerator(0, 3))
    now, soon, later = (noise.frames(torch.full((3,), t)).float() for t in (0.0, 0.02, 1.5))
    assert now.shape == (3, 3, 48, 64)
    assert (now[:, :, 1:] - now[:, :, :-1]).abs().max() < 70
    assert (now.flatten(1).std(1) > 15).all()
    assert (now - soon).abs().mean() < 10 < (now - later).abs().mean()
    assert (now[0] - now[1]).abs().mean() > 20
    other = Noise(3, 48, 64, CPU)
    other.reset(EVERY, WorldGenerator(0, 3))
    other.reset(torch.tensor([False, True, False]), WorldGenerator(1, 3))
    changed = (other.frames(torch.zeros(3)).float() != now).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_patterns_join_at_their_edges():
    textures = patterns(5, 64).float()
    inside = (textures[..., 1:] - textures[..., :-1]).abs().amax()
    assert (textures[..., 0] - textures[..., -1]).abs().max() <= inside + 1
    assert torch.equal(textures, patterns(5, 64).float())


def test_videos_play_forwards_and_backwards_at_their_own_speed(tmp_path):
    shades = [10, 60, 110, 160, 210]
    write_video(tmp_path / "one.mp4", shades)
    videos = Videos(str(tmp_path), 3, 8, 12, CPU)
    seen = [videos.frames(torch.full((3,), t / 10 + 0.01)) for t in range(10)]
    assert seen[0].shape == (3, 3, 8, 12)
    expected = torch.tensor([*shades, 160, 110, 60, 10, 60])
    found = torch.stack([x.float().mean((1, 2, 3)) for x in seen])
    assert (found - expected[:, None]).abs().max() < 8  # as far as the codec goes


def test_each_world_plays_a_video_of_its_own(tmp_path):
    write_video(tmp_path / "dark.mp4", [20] * 4)
    write_video(tmp_path / "light.mp4", [220] * 4)
    videos = Videos(str(tmp_path), 40, 8, 8, CPU)
    videos.reset(torch.ones(40, dtype=torch.bool), WorldGenerator(0, 40))
    light = videos.frames(torch.zeros(40)).float().mean((1, 2, 3)) > 120
    assert 8 < light.sum() < 32


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"noise.*folder with videos"):
        Videos(str(tmp_path), 1, 8, 8, CPU)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        Videos(str(tmp_path), 1, 8, 8, CPU)


@pytest.mark.parametrize("floor", [True, False])
def test_the_background_lies_behind_the_scene(floor):
    render = RenderConfig(height=24, width=32, cameras=("fixed", "lookatcart"))
    config = RandomizeConfig(background="noise", background_floor=floor)
    env = make_env("cartpole-swingup", 3, seed=1, observations=("pixels",), render=render, randomize=config)
    plain = make_env("cartpole-swingup", 3, seed=1, observations=("pixels", "segmentation"), render=render)
    first, reference = env.reset(), plain.reset()
    assert "segmentation" not in first
    geoms = env.task.model.geom_type[reference["segmentation"]]  # -1 is the last geom, and masked below
    covered = (reference["segmentation"] == -1) | torch.as_tensor((geoms == 0) & floor)
    assert 0 < covered.float().mean() < 1
    differs = (first["pixels"] != reference["pixels"]).any(1, keepdim=True)
    assert not differs[~covered].any()
    assert differs[covered].float().mean() > 0.8
    action = torch.zeros(3, 1)
    moved = env.step(first.set("action", action))["next", "pixels"]
    still = plain.step(reference.set("action", action))["next", "pixels"]
    assert (moved != first["pixels"]).float().mean() > (still != reference["pixels"]).float().mean() + 0.1


def test_videos_stand_upright_and_play_by_their_times(tmp_path):
    """A phone's video, on its side by a quarter turn, and a browser's, whose times are milliseconds."""
    times = [0, 95, 200, 305, 400, 495]
    for name, codec, turn in (("phone.mp4", "libx264", -90), ("browser.webm", "libvpx", 0)):
        (tmp_path / name).mkdir()
        with av.open(str(tmp_path / name / name), "w") as container:
            stream = container.add_stream(codec)
            stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            if turn:
                stream.set_display_rotation(turn)
            for time in times:
                picture = np.full((32, 64, 3), 40 + time // 3, dtype=np.uint8)
                picture[:, :32] = 20
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        videos = Videos(str(tmp_path / name), 1, 24, 12, CPU)
        seen = torch.stack([videos.frames(torch.tensor([t / 10 + 0.02]))[0] for t in range(6)]).float()
        dark = seen[:, :, :10] if turn else seen[..., :5]  # turned clockwise, the left half is the upper one
        bright = seen[:, :, 14:] if turn else seen[..., 7:]
        assert dark.mean() < 30
        expected = torch.tensor([40 + time // 3 for time in times])
        assert (bright.mean((1, 2, 3)) - expected).abs().max() < 8
