"""Where the clips of pretraining without an agent come from: a run's replay, a dataset of rollouts, or files."""

import hashlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindreel import cli
from mindreel.agents.checkpoint import fitting, load_checkpoint
from mindreel.agents.replay import Replay
from mindreel.agents.replay_clips import ReplayClips
from mindreel.encoders.data.clips import ClipConfig, Clips, find_recordings
from mindreel.encoders.public.public_encoder import Pretrained, PretrainedConfig
from mindreel.envs import make_task
from mindreel.rollouts.dataset import Rollouts
from mindreel.run_config import GROUPS, TrainConfig, check_picture_size


class SavedReplay(ReplayClips):
    """Clips of the replay that a run has saved.

    Args:
        replay: the replay.
        saved: it as its checkpoint holds it.
        clip_frames: frames F of a clip.
        steps: steps K after it.
        sentences: what the task's `behaviour` points to.

    Attributes:
        action_dim: number of action dimensions, A.
        side: height and width of its frames, in pixels.

    Raises:
        ValueError: it holds no pictures.
    """

    has_action = has_reward = True

    def __init__(self, replay: Replay, saved: dict[str, Any], clip_frames: int, steps: int, sentences: tuple[str, ...]):
        stored = saved["data"]
        if "pixels" not in stored:
            raise ValueError("That run's replay holds no pictures: its encoder read the simulator's state.")
        super().__init__(replay, clip_frames, steps)
        self.skipped: dict[str, str] = {}
        self.sentences = sentences if self.keys else ()
        self.action_dim, self.side = stored["action"].shape[-1], stored["pixels"].shape[-1]
        self._digest = hashlib.sha256(stored["action"].cpu().numpy().tobytes()).hexdigest()

    def state_dict(self) -> dict:
        """A digest of the replay, which does not change while an encoder learns from it."""
        return {"digest": self._digest}

    def load_state_dict(self, state: dict) -> None:
        """Does nothing for the replay that `state_dict` was called for.

        Raises:
            ValueError: it is another replay.
        """
        if state != self.state_dict():
            raise ValueError("The replay has changed since this run was saved. Start again with overwrite=true.")


class RolloutClips:
    """A source of clips (`agents.protocols.ClipSource`) that draws from a dataset of rollouts.

    Args:
        rollouts: the dataset, on the CPU.
        clip_frames: frames F of a clip.
        steps: steps K after it.
        device: where batches go.
    """

    def __init__(self, rollouts: Rollouts, clip_frames: int, steps: int, device: torch.device):
        self.rollouts, self.clip_frames, self.steps, self.device = rollouts, clip_frames, steps, device

    @property
    def described(self) -> bool:
        """Whether a sentence describes any frame."""
        return bool((self.rollouts.behaviour >= 0).any())

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """A batch for an encoder's `losses`."""
        return tuple(x.to(self.device) for x in self.rollouts.sample(batch_size, self.steps, self.clip_frames))

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Random pairs of successive frames, uint8 (N, 2, 3, H, W), and rewards (N,)."""
        frames, _, reward, _ = self.rollouts.sample(count, 1, 1)
        return frames.to(self.device), reward[:, 0].to(self.device)

    def clips(self, count: int) -> Tensor:
        """Random clips, uint8 (N, F, 3, H, W)."""
        return self.rollouts.sample(count, 1, self.clip_frames)[0][:, :-1].to(self.device)


def _read_size(config: Any) -> tuple[int, int]:
    """Frames of the clips that an encoder reads, and their side in pixels."""
    if isinstance(config, PretrainedConfig):  # a checkpoint's own size is known only once it is read
        encoder = Pretrained(replace(config, training_mode="frozen"))
        return encoder.clip_frames, encoder.image_size
    return config.vit.frames, config.vit.image_size


def open_clips(
    config: TrainConfig, data: Path, clip_config: ClipConfig, device: torch.device
) -> tuple[TrainConfig, Clips | SavedReplay, Replay | None]:
    """The clips under a path and, if it is a run, its replay; the config then takes that run's task and worlds."""
    (frames, side), steps = _read_size(config.encoder), config.pretrain.future_steps
    checkpoint = data / "checkpoints" / "last.pt"
    if not checkpoint.is_file():
        found = find_recordings(data, clip_config.camera)
        return config, Clips(clip_config, found, frames, steps, side, device), None
    state = load_checkpoint(checkpoint, device)
    if "replay" not in state:
        raise ValueError(
            f"data={data} has no replay. If it was pretrained on files, give those; if it is an encoder of "
            f"scripts/probe.py, encoder_from={data} starts from it."
        )
    saved = cli.load(data, type(config), GROUPS)
    replay = Replay(saved.loop.replay_capacity, saved.env.num_envs, device)
    with fitting(checkpoint):
        replay.load_state_dict(state["replay"])
    config = replace(config, task=saved.task, env=saved.env)
    check_picture_size(config)
    sentences = make_task(saved.task).behaviours if saved.env.backend == "warp" else ()
    return config, SavedReplay(replay, state["replay"], frames, steps, sentences), replay


def leave_out_terms(config: TrainConfig, clips: Clips | SavedReplay, say: Callable[[str], None]) -> TrainConfig:
    """The config without the terms that need actions or rewards, where the recordings have none."""
    encoder = config.encoder
    needed = (clips.has_action, "actions", "inverse_coef"), (clips.has_reward, "rewards", "reward_coef")
    for has, what, name in needed:
        without = encoder if has else _switched_off(encoder, name)
        if not has:
            left_out = f"; {name.removesuffix('_coef')}_loss is left out" if without != encoder else ""
            say(f"These recordings have in common no {what}, which are taken to be 0{left_out}.")
        encoder = without
    return replace(config, encoder=encoder)


def _switched_off(config: Any, name: str) -> Any:
    """A config with 0 for every field of that name, however deep."""
    changes = {}
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            changes[one.name] = _switched_off(value, name)
        elif one.name == name:
            changes[name] = 0.0
    return replace(config, **changes)
