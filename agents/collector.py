"""Acting in batches of worlds: the clips that an encoder reads, data collection, and evaluation."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded
from torchrl.envs import EnvBase

from mindreel.agents.replay import Replay

_UNLIMITED = 1e10  # MuJoCo's largest number, which dm_control gives as the bound of what has none

Policy = Callable[[Tensor, Tensor], Tensor]
"""features (B, F), `first` (B,) -> actions (B, A) in [-1, 1]."""


class Eyes:
    """Keeps the newest frames of each world as a clip and encodes each observation once.

    Args:
        encoder: any encoder (`clip_frames`, `forward`); one with `clip_frames` 0 reads `state`.
    """

    def __init__(self, encoder):
        self.encoder = encoder
        self.clip: Tensor | None = None  # (B, F, 3, H, W)

    @torch.no_grad()
    def see(self, observation: TensorDictBase, first: Tensor) -> Tensor:
        """Features (B, F) of the present observation; `first` (B,) marks the worlds that start an episode."""
        if not self.encoder.clip_frames:
            return self.encoder(observation["state"])
        frame = observation["pixels"].unsqueeze(1)  # (B, 1, 3, H, W)
        still = frame.expand(-1, self.encoder.clip_frames, -1, -1, -1)  # before the first frame stands itself
        if self.clip is None:
            self.clip = still.contiguous()
        else:
            moved = torch.cat([self.clip[:, 1:], frame], 1)
            self.clip = torch.where(first.view(-1, 1, 1, 1, 1), still, moved)
        return self.encoder(self.clip)

    @torch.no_grad()
    def peek(self, observation: TensorDictBase) -> Tensor:
        """Features of an observation that follows the present one, without moving on to it."""
        if self.clip is None:  # an encoder that reads the state keeps no clip
            return self.encoder(observation["state"])
        return self.encoder(torch.cat([self.clip[:, 1:], observation["pixels"].unsqueeze(1)], 1))


def action_range(env: EnvBase) -> tuple[Tensor, Tensor]:
    """Middle and half width of the env's action bounds, (B, A) each: agents act in [-1, 1].

    An actuator without limits, as in lqr, is used between -1 and 1.
    """
    spec = env.action_spec
    assert isinstance(spec, Bounded), spec
    low, high = (bound.where(bound.abs() < _UNLIMITED, bound.sign()) for bound in (spec.low, spec.high))
    return (high + low) / 2, (high - low) / 2


class Collector:
    """Steps the worlds with a policy and writes what happens to replay.

    Args:
        env: batch of worlds.
        eyes: the encoder's clips.
        replay: where transitions go.
        store_latents: whether features are stored; not for an encoder that changes at every update.
        noise_correlation: correlation of the exploration noise from one decision to the next. Correlated
            noise pushes for long enough to move a body, where white noise averages out.
    """

    def __init__(self, env: EnvBase, eyes: Eyes, replay: Replay, store_latents: bool, noise_correlation: float = 0.7):
        self.env: Any = env  # besides EnvBase's: counters, observe, worlds_state, load_worlds_state
        self.eyes, self.replay = eyes, replay
        self.store_latents = store_latents
        self.noise_correlation = noise_correlation
        spec = env.action_spec
        self._action_mean, self._action_scale = action_range(env)
        self.observation = env.reset()
        batch = self.observation.batch_size[0]
        self.first = torch.ones(batch, dtype=torch.bool, device=env.device)
        self.features = eyes.see(self.observation, self.first)
        self.noise = torch.zeros(spec.shape, device=env.device)
        self.returns = torch.zeros(batch, device=env.device)

    def step(self, policy: Policy | None, noise: float, encoder_id: str) -> list[float]:
        """One decision in every world.

        Args:
            policy: how to act; None for noise alone.
            noise: standard deviation of the correlated noise added to the policy's actions.
            encoder_id: identity of the encoder, kept beside the latents.

        Returns:
            returns of the episodes that ended.
        """
        keep = self.noise_correlation
        self.noise = keep * self.noise + (1 - keep**2) ** 0.5 * torch.randn_like(self.noise)
        action = noise * self.noise
        if policy is not None:
            action = action + policy(self.features, self.first)
        action = action.clamp(-1, 1)
        root = self.observation.clone(recurse=False)
        root["action"] = self._action_mean + self._action_scale * action
        stepped, following = self.env.step_and_maybe_reset(root)
        after = stepped["next"]
        reward, done = after["reward"].squeeze(-1), after["done"].squeeze(-1)
        self._store(action, reward, after["terminated"].squeeze(-1), done, after, encoder_id)
        self.returns += reward
        ended = self.returns[done].tolist()
        self.returns = torch.where(done, 0.0, self.returns)
        self.observation, self.first = following, done
        self.features = self.eyes.see(following, done)
        return ended

    def _store(
        self,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        done: Tensor,
        after: TensorDictBase,
        encoder_id: str,
    ) -> None:
        now, final = self._row(self.observation), self._row(after)
        if self.store_latents:
            now["latent"] = self.features.to(torch.float16)
            # Only an episode's end needs the features of `after`; elsewhere `see` makes them in a moment.
            features = self.eyes.peek(after) if done.any() else torch.zeros_like(self.features)
            final["latent"] = features.to(torch.float16)
        self.replay.add(now, action, reward, terminated, done, final, encoder_id)

    def _row(self, observation: TensorDictBase) -> TensorDict:
        keys = [key for key in ("pixels", "state", "behaviour") if key in observation.keys()]
        return TensorDict({key: observation[key] for key in keys}, batch_size=observation.batch_size)

    def look_again(self) -> None:
        """Encodes the present observation again, after a change of the encoder."""
        if self.eyes.clip is not None:
            with torch.no_grad():
                self.features = self.eyes.encoder(self.eyes.clip)

    def state_dict(self) -> dict:
        """Everything that changes while collecting, the worlds included."""
        return {
            "worlds": self.env.worlds_state(),
            "clip": self.eyes.clip,
            "features": self.features,
            "first": self.first,
            "noise": self.noise,
            "returns": self.returns,
        }

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.env.load_worlds_state(state["worlds"])
        self.observation = self.env.observe()
        self.eyes.clip = state["clip"]
        self.features, self.first = state["features"], state["first"]
        self.noise, self.returns = state["noise"], state["returns"]
        if not self.env.resumes_exactly:  # other episodes have begun
            self.replay.cut()
            self.first, self.eyes.clip = torch.ones_like(self.first), None
            self.returns = torch.zeros_like(self.returns)
            self.features = self.eyes.see(self.observation, self.first)


@torch.no_grad()
def evaluate(env: EnvBase, encoder, policy: Policy | None, progress: Callable[[], None] | None = None) -> dict:
    """Plays one episode in every world.

    Args:
        env: worlds to play in, reset here.
        encoder: what the agent sees through.
        policy: how to act; None for uniformly random actions.
        progress: called after every decision.

    Returns:
        returns (B,), and of world 0 the frames uint8 (T + 1, 3, H, W) if it has pixels, the actions (T, A) and
        the features (T + 1, F).
    """
    spec = env.action_spec
    mean, scale = action_range(env)
    eyes = Eyes(encoder)
    observation = env.reset()
    first = torch.ones(observation.batch_size, dtype=torch.bool, device=env.device)
    alive = first.clone()
    returns = torch.zeros(observation.batch_size, device=env.device)
    features = eyes.see(observation, first)
    frames, actions, seen = [], [], [features[0]]
    if "pixels" in observation.keys():
        frames.append(observation["pixels"][0].clone())
    while alive.any():
        action = 2 * torch.rand(spec.shape, device=env.device) - 1 if policy is None else policy(features, first)
        root = observation.clone(recurse=False)
        root["action"] = mean + scale * action
        stepped, following = env.step_and_maybe_reset(root)
        after = stepped["next"]
        returns += alive * after["reward"].squeeze(-1)
        if alive[0]:
            actions.append(action[0])
            seen.append(eyes.peek(after)[0] if "pixels" in after.keys() or not encoder.clip_frames else features[0])
            if frames:
                frames.append(after["pixels"][0].clone())
        first = after["done"].squeeze(-1)
        alive &= ~first
        observation = following
        features = eyes.see(observation, first)
        if progress is not None:
            progress()
    result = {"returns": returns, "actions": torch.stack(actions), "features": torch.stack(seen)}
    return result | ({"frames": torch.stack(frames)} if frames else {})
