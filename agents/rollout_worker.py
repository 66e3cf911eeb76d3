"""Acting in a batch of worlds: one loop for collecting, evaluating and recording rollouts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded

from mindreel.agents.protocols import BatchedWorlds, FeatureEncoder, Policy

_UNLIMITED = 1e10  # MuJoCo's largest number, which dm_control gives as the bound of what has none
NOISE_CORRELATION = 0.7
"""Correlation of the exploration noise from one decision to the next. Correlated noise pushes for long enough to move
a body, where white noise averages out."""


class ClipEncoder:
    """Keeps each environment's last F frames as a clip, and encodes it once for each observation.

    Args:
        encoder: any encoder; one with `clip_frames` 0 reads `state`.
    """

    def __init__(self, encoder: FeatureEncoder):
        self.encoder = encoder
        self.clip: Tensor | None = None  # (B, F, 3, H, W)

    @torch.no_grad()
    def encode_next(self, observation: TensorDictBase, first: Tensor) -> Tensor:
        """Takes the next observation in.

        Args:
            observation: `pixels` uint8 (B, 3, H, W), or `state` (B, n).
            first: worlds that start an episode, (B,) bool. Their clips repeat this frame.

        Returns:
            features (B, D).
        """
        if not self.encoder.clip_frames:
            return self.encoder(observation["state"])
        frame: Tensor = observation["pixels"]
        clip = repeat(frame, "b c h w -> b f c h w", f=self.encoder.clip_frames)
        if self.clip is not None:
            moved = torch.cat([self.clip[:, 1:], rearrange(frame, "b c h w -> b 1 c h w")], 1)
            clip = torch.where(rearrange(first, "b -> b 1 1 1 1"), clip, moved)
        self.clip = clip.contiguous()
        return self.encoder(self.clip)

    @torch.no_grad()
    def encode_final(self, observation: TensorDictBase) -> Tensor:
        """Features (B, D) of an observation that follows the present one, without taking it in."""
        if self.clip is None:  # an encoder that reads the state keeps no clip
            return self.encoder(observation["state"])
        frame = rearrange(observation["pixels"], "b c h w -> b 1 c h w")
        return self.encoder(torch.cat([self.clip[:, 1:], frame], 1))

    @torch.no_grad()
    def reencode(self) -> Tensor | None:
        """Features (B, D) of the present clips, after a change of the encoder; None where there are no clips."""
        return None if self.clip is None else self.encoder(self.clip)


def action_range(env: BatchedWorlds) -> tuple[Tensor, Tensor]:
    """Middle and half width of the env's action bounds, (B, A) each: agents act in [-1, 1].

    An actuator without limits, as in lqr, is used between -1 and 1.
    """
    spec = env.action_spec
    assert isinstance(spec, Bounded), spec
    low, high = (bound.where(bound.abs() < _UNLIMITED, bound.sign()) for bound in (spec.low, spec.high))
    return (high + low) / 2, (high - low) / 2


def uniform_policy(env: BatchedWorlds) -> Policy:
    """Uniformly random actions for these worlds."""
    shape, device = env.action_spec.shape, env.device
    return lambda features, first: 2 * torch.rand(shape, device=device) - 1


@dataclass(frozen=True)
class Transition:
    """One decision in every world: (obs[t], action[t]) -> reward[t], obs[t + 1]."""

    observation: TensorDictBase
    """What the worlds showed, batch (B,)."""
    features: Tensor | None
    """Its features, (B, D); None without an encoder."""
    action: Tensor
    """What was done, (B, A) in [-1, 1]."""
    reward: Tensor
    """(B,)."""
    terminated: Tensor
    """Whether the episode ended for good, (B,) bool."""
    done: Tensor
    """Whether the episode ended at all, (B,) bool."""
    next_observation: TensorDictBase
    """What followed, batch (B,): where an episode ended its last observation, not the first of the next."""
    final_features: Tensor | None
    """Features of `next_observation`, (B, D), where some episode ended; otherwise None."""


class RolloutWorker:
    """Steps worlds with a policy and correlated noise.

    Args:
        env: batch of worlds, reset here.
        encoder: what the policy sees through; None for policies that need no features.
        noise_correlation: correlation of the noise from one decision to the next.
        encode_final: whether `Transition.final_features` are wanted.
        reset_ended: whether worlds whose episode ends start the next one; otherwise they go on.

    Attributes:
        observation: the observation to act on, batch (B,).
        features: its features, (B, D).
        first: worlds where it starts an episode, (B,) bool.
    """

    def __init__(
        self,
        env: BatchedWorlds,
        encoder: FeatureEncoder | None,
        noise_correlation: float = NOISE_CORRELATION,
        encode_final: bool = True,
        reset_ended: bool = True,
    ):
        self.env = env
        self.clip_encoder = None if encoder is None else ClipEncoder(encoder)
        self.noise_correlation, self.encode_final, self.reset_ended = noise_correlation, encode_final, reset_ended
        self._action_mean, self._action_scale = action_range(env)
        self.observation = env.reset()
        self.first = torch.ones(self.observation.batch_size, dtype=torch.bool, device=env.device)
        self.features = self._encode_next()
        self.noise = torch.zeros(env.action_spec.shape, device=env.device)

    @torch.no_grad()
    def step(self, policy: Policy | None, noise: float | None = None) -> Transition:
        """One decision in every world.

        Args:
            policy: how to act; None for noise alone.
            noise: standard deviation of the correlated noise added to the policy's actions; None draws none.
        """
        action = torch.zeros_like(self.noise)
        if noise is not None:
            keep = self.noise_correlation
            self.noise = keep * self.noise + (1 - keep**2) ** 0.5 * torch.randn_like(self.noise)
            action = noise * self.noise
        if policy is not None:
            action = action + policy(self.features, self.first)  # pyright: ignore[reportArgumentType]
        action = action.clamp(-1, 1)
        root = self.observation.clone(recurse=False)
        root["action"] = self._action_mean + self._action_scale * action
        if self.reset_ended:
            stepped, following = self.env.step_and_maybe_reset(root)
        else:
            stepped, following = self.env.step(root), self.env.observe()
        after: TensorDictBase = stepped.get("next")
        done = rearrange(after["done"], "b 1 -> b")
        transition = Transition(
            observation=self.observation,
            features=self.features,
            action=action,
            reward=rearrange(after["reward"], "b 1 -> b"),
            terminated=rearrange(after["terminated"], "b 1 -> b"),
            done=done,
            next_observation=after,
            final_features=self._encode_final(after, done),
        )
        self.observation, self.first = following, done if self.reset_ended else torch.zeros_like(done)
        self.features = self._encode_next()
        return transition

    def _encode_next(self) -> Tensor | None:
        return None if self.clip_encoder is None else self.clip_encoder.encode_next(self.observation, self.first)

    def _encode_final(self, after: TensorDictBase, done: Tensor) -> Tensor | None:
        """Only an episode's end needs the features of `after`; elsewhere `_encode_next` makes them in a moment."""
        if self.clip_encoder is None or not self.encode_final or not done.any():
            return None
        return self.clip_encoder.encode_final(after)

    def reencode(self) -> None:
        """Encodes the present observation again, after a change of the encoder."""
        features = None if self.clip_encoder is None else self.clip_encoder.reencode()
        if features is not None:
            self.features = features

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """Everything that acting changes, the worlds included."""
        return {
            "worlds": self.env.worlds_state(),
            "clip": None if self.clip_encoder is None else self.clip_encoder.clip,
            "features": self.features,
            "first": self.first,
            "noise": self.noise,
        }

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`; where worlds do not resume exactly, new episodes begin."""
        self.env.load_worlds_state(state["worlds"])
        self.observation, self.noise = self.env.observe(), state["noise"]
        self.features, self.first, clip = state["features"], state["first"], state["clip"]
        if not self.env.resumes_exactly:
            self.first, clip = torch.ones_like(self.first), None
        if self.clip_encoder is not None:
            self.clip_encoder.clip = clip
        if not self.env.resumes_exactly:
            self.features = self._encode_next()


def evaluate(
    env: BatchedWorlds, encoder: FeatureEncoder, policy: Policy | None, progress: Callable[[], None] | None = None
) -> dict[str, Tensor]:
    """Plays one episode in every world.

    Args:
        env: worlds to play in, reset here.
        encoder: what the agent sees through.
        policy: how to act; None for uniformly random actions.
        progress: called after every decision.

    Returns:
        returns (B,), and of world 0 the frames uint8 (T + 1, 3, H, W) if it has pixels, the actions (T, A) and
        the features (T + 1, D).
    """
    worker = RolloutWorker(env, encoder)
    policy = policy or uniform_policy(env)
    alive = worker.first.clone()
    returns = torch.zeros(alive.shape, device=env.device)
    assert worker.features is not None
    actions, features, frames = [], [worker.features[0]], []
    if "pixels" in worker.observation.keys():
        frames.append(worker.observation["pixels"][0].clone())
    while alive.any():
        step = worker.step(policy)
        returns += alive * step.reward
        if alive[0]:
            actions.append(step.action[0])
            following = step.final_features if step.done[0] else worker.features
            assert following is not None
            features.append(following[0])
            if frames:
                frames.append(step.next_observation["pixels"][0].clone())
        alive &= ~step.done
        if progress is not None:
            progress()
    result = {"returns": returns, "actions": torch.stack(actions), "features": torch.stack(features)}
    return result | ({"frames": torch.stack(frames)} if frames else {})
