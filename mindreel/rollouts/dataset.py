"""A dataset of rollouts: episodes of one task by several policies, from random to expert, in one file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mindreel.files import replacing

POLICIES = ("random", "noise", "medium", "expert")
"""Uniform actions, actions correlated in time, a half-trained agent, a trained one."""


@dataclass(frozen=True)
class RolloutConfig:
    """The rollouts that encoders are pretrained and probed on."""

    policies: tuple[str, ...] = POLICIES
    """Who acts: random, noise, medium, expert."""
    episodes: int = 32
    """Episodes of each policy, E."""
    decisions: int = 250
    """Decisions of an episode, T; the task's whole episode where that is shorter."""
    held_out: float = 0.25
    """Fraction of the episodes that only score probes."""
    noise: float = 0.2
    """Standard deviation of the correlated noise on the actions of medium and expert."""
    agent_updates: int = 3000
    """Updates of the state-based agent that becomes the expert, where no run is named."""
    agent_repeat: int = 4
    """Control steps for which its actions hold while it learns."""
    medium_fraction: float = 0.25
    """Fraction of these updates after which it is the medium policy."""
    seed: int | None = None
    """Seed of the rollouts and of that agent; None for `seed`. Naming one gives all of seed=1,2,3 the same rollouts."""

    def __post_init__(self):
        unknown = set(self.policies) - set(POLICIES)
        if unknown or not self.policies:
            raise ValueError(f"rollouts.policies: expected some of {', '.join(POLICIES)}, got {self.policies}.")
        if self.episodes < 2 or self.decisions < 1 or not 0 < self.held_out < 1:
            raise ValueError("rollouts: expected at least 2 episodes, 1 decision, and held_out between 0 and 1.")
        if held_out_episodes(self.held_out, self.episodes) >= self.episodes:
            raise ValueError(
                f"rollouts.held_out={self.held_out} of rollouts.episodes={self.episodes} leaves no episode to learn "
                "from: hold out a smaller fraction, or make more episodes."
            )


def held_out_episodes(fraction: float, episodes: int) -> int:
    """How many of a policy's episodes only score probes."""
    return max(1, round(fraction * episodes))


@dataclass(frozen=True)
class Metadata:
    """What describes a dataset of rollouts."""

    task: str
    """Name of the task."""
    policies: tuple[str, ...]
    """Names that `policy` counts through."""
    returns: tuple[float, ...]
    """Mean return of each policy's episodes."""
    state_names: tuple[str, ...]
    """Names of the entries of `state`."""
    angles: tuple[int, ...]
    """Entries of `state` that are angles in radians, and may go round."""
    behaviours: tuple[str, ...]
    """Sentences that `behaviour` counts through."""
    action_repeat: int
    """Control steps for which one action holds."""


@dataclass(frozen=True)
class Rollouts:
    """E episodes of T decisions, on the CPU."""

    metadata: Metadata
    pixels: Tensor
    """Frames uint8 (E, T + 1, 3, H, W)."""
    action: Tensor
    """Actions in [-1, 1], (E, T, A)."""
    reward: Tensor
    """Rewards (E, T)."""
    state: Tensor
    """The task's observation of the state, (E, T + 1, n)."""
    behaviour: Tensor
    """Index of the sentence that says what the world is doing, int64 (E, T + 1), -1 where unknown."""
    policy: Tensor
    """Index of who acts, int64 (E,)."""
    episode: Tensor
    """Number of the episode, int64 (E,)."""
    in_view: Tensor
    """Whether the picture shows the middle of everything that moves, bool (E, T + 1)."""
    qpos: Tensor
    """MuJoCo's generalised positions, (E, T + 1, nq)."""
    qvel: Tensor
    """Generalised velocities, (E, T + 1, nv)."""
    geom_xpos: Tensor
    """Places of all geoms at the first frame, (E, G, 3): tasks move their targets by them."""

    @property
    def steps(self) -> int:
        """Decisions of an episode, T."""
        return self.action.shape[1]

    def __len__(self) -> int:
        return len(self.action)

    def pick(self, episodes: Tensor) -> "Rollouts":
        """Some of the episodes, by index or mask."""
        return replace(self, **{name: tensor[episodes] for name, tensor in self._tensors()})

    def split(self, held_out: float) -> tuple["Rollouts", "Rollouts"]:
        """Episodes to learn from and episodes to score on, the last ones of each policy."""
        last = torch.zeros(len(self), dtype=torch.bool)
        for policy in self.policy.unique():
            own = (self.policy == policy).nonzero().squeeze(1)
            last[own[len(own) - held_out_episodes(held_out, len(own)) :]] = True
        return self.pick(~last), self.pick(last)

    def targets(self) -> tuple[list[str], Tensor]:
        """What probes read from a frame: names, and `state` with each angle as cosine and sine, (E, T + 1, n)."""
        names, columns = [], []
        for index, name in enumerate(self.metadata.state_names):
            value = self.state[..., index]
            if index in self.metadata.angles:
                names += [f"cos {name}", f"sin {name}"]
                columns += [value.cos(), value.sin()]
            else:
                names.append(name)
                columns.append(value)
        return names, torch.stack(columns, -1)

    def clips(self, episode: Tensor, step: Tensor, frames: int, ahead: int = 0) -> Tensor:
        """Clips uint8 (N, frames + ahead, 3, H, W): up to frame `step` (N,) of `episode` (N,), and those after it.

        Before an episode's first frame that frame is repeated.
        """
        when = step[:, None] + torch.arange(1 - frames, 1 + ahead)
        return self.pixels[episode[:, None], when.clamp(min=0)]

    def sample(self, batch_size: int, steps: int, frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch of an encoder's `losses`: frames (B, frames + steps, 3, H, W), actions, rewards, behaviour (B,)."""
        episode = torch.randint(len(self), (batch_size,))
        step = torch.randint(self.steps - steps + 1, (batch_size,))
        when = step[:, None] + torch.arange(steps)
        taken = self.action[episode[:, None], when], self.reward[episode[:, None], when]
        return self.clips(episode, step, frames, steps), *taken, self.behaviour[episode, step]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        return ((field.name, getattr(self, field.name)) for field in fields(self) if field.name != "metadata")

    # ---- files ----

    def save(self, path: Path) -> None:
        """Writes a safetensors file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {field.name: json.dumps(getattr(self.metadata, field.name)) for field in fields(Metadata)}
        with replacing(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in self._tensors()}, temporary, about)

    @classmethod
    def load(cls, path: Path) -> "Rollouts":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no rollouts.
        """
        if not path.is_file():
            raise FileNotFoundError(f"There are no rollouts at {path}: scripts/rollouts.py makes them.")
        try:
            with safe_open(path, "pt") as file:
                about = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = Metadata(
                task=about["task"],
                policies=tuple(about["policies"]),
                returns=tuple(about["returns"]),
                state_names=tuple(about["state_names"]),
                angles=tuple(about["angles"]),
                behaviours=tuple(about["behaviours"]),
                action_repeat=about["action_repeat"],
            )
            return cls(metadata, **tensors)
        except (SafetensorError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no rollouts of Mindreel ({error}): delete it, and it is made again."
            ) from error
