"""What a notebook uses: environments, trained agents and encoders by name.

Everything here is also an attribute of `mindreel`: `mindreel.make_env`, `mindreel.load`, `mindreel.load_encoder`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn import functional as F

from mindreel import cli
from mindreel.agents.checkpoint import fitting, load_checkpoint
from mindreel.agents.rollout_worker import ClipEncoder, action_range
from mindreel.assembly import Parts, checkpoint_of, load_parts
from mindreel.devices import check_device
from mindreel.encoders import Encoder
from mindreel.envs import make_env
from mindreel.run_config import GROUPS, TrainConfig
from mindreel.runs.artifacts import DECODER
from mindreel.transfer import find_encoder
from mindreel.world_model.decoder import Decoder

__all__ = ["TrainedAgent", "VideoFeatures", "load", "load_encoder", "make_env"]

_CLIPS = 256  # encoded at a time


def load(run: str | Path, device: str = "cpu") -> "TrainedAgent":
    """The agent that a run trained, as its checkpoint holds it.

    Args:
        run: the run's folder.
        device: cpu, cuda or cuda:N.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint in it.
        ValueError: the run is of another version, damaged, or has no agent.
    """
    # One world tells the bounds of the actions.
    config = cli.load(run, TrainConfig, GROUPS)
    config = replace(config, device=device, env=replace(config.env, num_envs=1))
    parts, _ = load_parts(config, checkpoint_of(str(run)))
    decoder = None
    if (path := Path(run) / DECODER).is_file():
        state = load_checkpoint(path, parts.env.device)
        with fitting(path):
            decoder = Decoder(parts.agent.model.config.latent_dim, tuple(state["frame_shape"])).to(parts.env.device)
            decoder.load_state_dict(state["decoder"])
    return TrainedAgent(config, parts, decoder)


def load_encoder(run_or_folder: str | Path, device: str = "cpu") -> "VideoFeatures":
    """A run's encoder, or a public checkpoint, for videos of any length and size.

    Args:
        run_or_folder: folder of a run of `train` or `pretrain`; a folder or OWNER/NAME of the Hugging Face hub with a
            public checkpoint.
        device: cpu, cuda or cuda:N.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it cannot be read, or is a run that reads the simulator's state.
    """
    encoder = find_encoder(str(run_or_folder), 16, check_device(device), "load_encoder")
    if not encoder.clip_frames:
        raise ValueError(f"load_encoder: {run_or_folder} reads the simulator's state, so it encodes no video.")
    return VideoFeatures(encoder)


class VideoFeatures:
    """Encodes videos.

    Attributes:
        encoder: the encoder, in eval mode.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder.eval()

    @torch.no_grad()
    def __call__(self, video: np.ndarray | Tensor) -> Tensor:
        """Features of every frame and the frames before it: uint8 (T, H, W, 3) -> (T, D) float32.

        A frame is described by the clip that ends with it, so no feature depends on a later frame. Frames of another
        size than the encoder's are resized, without regard to their aspect ratio.

        Raises:
            ValueError: the video is of another type or shape, or empty.
        """
        frames = _frames_of(video).to(next(self.encoder.parameters()).device)
        size = (self.encoder.image_size, self.encoder.image_size)
        if frames.shape[-2:] != size:
            resized = F.interpolate(frames.float(), size, mode="bilinear", antialias=True)
            frames = resized.round().clamp(0, 255).byte()
        length = self.encoder.clip_frames
        padded = torch.cat([repeat(frames[0], "c h w -> t c h w", t=length - 1), frames])
        clips = rearrange(padded.unfold(0, length, 1), "t c h w f -> t f c h w")
        return torch.cat([self.encoder(part.contiguous()) for part in clips.split(_CLIPS)]).float()


class TrainedAgent:
    """An agent to act with, and a world model to look into.

    Attributes:
        config: the run's config.
        parts: its encoder, agent and one world of its task.
    """

    def __init__(self, config: TrainConfig, parts: Parts, decoder: Decoder | None):
        self.config, self.parts = config, parts
        self._decoder = decoder
        self._action_mean, self._action_scale = (bound[:1] for bound in action_range(parts.env))
        self.reset()

    def reset(self) -> None:
        """Forgets the episodes it acted in: all worlds start one with the next observation."""
        self._clips: ClipEncoder | None = None

    @torch.no_grad()
    def act(self, observation: TensorDictBase, first: Tensor | None = None) -> Tensor:
        """Actions as in evaluation, by planning where the agent plans.

        Args:
            observation: what `make_env(...).reset()` and `.step()` give: `pixels` uint8 (B, 3, H, W), or `state` (B, n)
                for an agent on the simulator's state. The frames before it are those of the calls before.
            first: worlds that start an episode, (B,) bool; if None, all with the first call and after `reset`.

        Returns:
            (B, A), within the bounds of the task's actions.

        Raises:
            ValueError: the observation lacks what the agent reads, or is of another number of worlds than before.
        """
        worlds = observation.batch_size[0]
        starting = self._clips is None
        if self._clips is None:
            self._clips = ClipEncoder(self.parts.encoder)
        if first is None:
            first = torch.full((worlds,), starting, device=self.parts.env.device)
        features = self._features(self._clips, observation, first)
        return self._action_mean + self._action_scale * self.parts.agent.act(features, first, explore=False)

    @torch.no_grad()
    def encode(self, frames: np.ndarray | Tensor) -> Tensor:
        """Latents of every frame of a video: uint8 (T, H, W, 3) -> (T, D).

        Raises:
            ValueError: as `VideoFeatures`, or the agent reads the simulator's state.
        """
        if not self.parts.encoder.clip_frames:
            raise ValueError("This agent reads the simulator's state, so it encodes no frames.")
        return self.parts.agent.model.encode(VideoFeatures(self.parts.encoder)(frames))

    @torch.no_grad()
    def imagine(self, observation: TensorDictBase, actions: Tensor) -> dict[str, Tensor]:
        """What the world model expects of a sequence of actions.

        Args:
            observation: as for `act`; taken as the first of an episode.
            actions: (B, T, A), within the bounds of the task's actions.

        Returns:
            latent (B, T + 1, D), the first of them of the observation; reward (B, T); value (B, T + 1), the mean of
            the Q-functions for the policy's action.

        Raises:
            ValueError: as `act`, or for actions of another shape.
        """
        worlds, model = observation.batch_size[0], self.parts.agent.model
        if actions.ndim != 3 or actions.shape[::2] != (worlds, model.action_dim):
            raise ValueError(f"Expected actions ({worlds}, T, {model.action_dim}), got {tuple(actions.shape)}.")
        first = torch.ones(worlds, dtype=torch.bool, device=self.parts.env.device)
        features = self._features(ClipEncoder(self.parts.encoder), observation, first)
        latents, rewards = [model.encode(features)], []
        for action in ((actions - self._action_mean) / self._action_scale).clamp(-1, 1).unbind(1):
            rewards.append(model.reward(latents[-1], action))
            latents.append(model.next(latents[-1], action))
        latent = torch.stack(latents, 1)
        flat = rearrange(latent, "b t d -> (b t) d")
        value = model.q(flat, model.pi(flat)[2]).mean(0)
        reward = torch.stack(rewards, 1) if rewards else latent.new_zeros(worlds, 0)
        return {"latent": latent, "reward": reward, "value": rearrange(value, "(b t) -> b t", b=worlds)}

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures of latents, to look at: (..., D) -> uint8 (..., 3, H, W).

        Raises:
            ValueError: the run has no decoder, or the latents are of another model.
        """
        if self._decoder is None:
            raise ValueError(
                "This run has no decoder: train with decoder_steps above 0 and an encoder whose features are stored "
                "(encoder.training_mode frozen or refresh)."
            )
        return self._decoder.decode(latent)

    def _features(self, clips: ClipEncoder, observation: TensorDictBase, first: Tensor) -> Tensor:
        name = "pixels" if self.parts.encoder.clip_frames else "state"
        if name not in observation.keys():
            raise ValueError(f"This agent reads {name}: make_env(..., observations=({name!r},)) gives them.")
        if clips.clip is not None and len(clips.clip) != len(first):
            raise ValueError(f"Expected {len(clips.clip)} worlds as before, got {len(first)}: call reset() in between.")
        return clips.encode_next(observation, first)


def _frames_of(video: np.ndarray | Tensor) -> Tensor:
    """A checked video as frames (T, 3, H, W)."""
    frames = torch.as_tensor(video)
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"Expected a video uint8 (T, H, W, 3), got {frames.dtype} {tuple(frames.shape)}.")
    return rearrange(frames, "t h w c -> t c h w")
