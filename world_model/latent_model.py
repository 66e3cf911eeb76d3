"""The latent world model: from encoder features to futures, rewards and values.

After TD-MPC2 (Hansen et al., ICLR 2024): no decoder; a SimNorm latent whose dynamics are trained to
predict the next latent, with reward, Q and policy heads beside them.
"""

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from mindreel.world_model.layers import EnsembleMLP, SimNorm, TwoHot, mlp


@dataclass(frozen=True)
class LatentModelConfig:
    """A latent model of size s, for laptops."""

    latent_dim: Annotated[int, Ge(1)] = 256
    """Width D of the latent z."""
    hidden_dim: Annotated[int, Ge(1)] = 256
    """Width of every hidden layer."""
    encoder_hidden_dim: Annotated[int, Ge(1)] = 256
    """Width of the hidden layer between encoder features and z."""
    num_q: Annotated[int, Ge(1)] = 2
    """Q-functions in the ensemble."""
    simnorm_group: Annotated[int, Ge(1)] = 8
    """Features in each simplex of the latent."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.01
    """Dropout in the Q-functions."""
    bins: Annotated[int, Ge(2)] = 101
    """Bins of the two-hot reward and value heads."""
    log_std_min: float = -10.0
    """Least log standard deviation of the policy."""
    log_std_max: float = 2.0
    """Greatest log standard deviation of the policy."""

    def __post_init__(self):
        if self.latent_dim % self.simnorm_group:
            raise ValueError(
                f"latent_dim ({self.latent_dim}) must be a multiple of simnorm_group ({self.simnorm_group})."
            )
        if self.log_std_min >= self.log_std_max:
            raise ValueError(f"log_std_min ({self.log_std_min}) must be below log_std_max ({self.log_std_max}).")


@dataclass(frozen=True)
class LatentModelXS(LatentModelConfig):
    """About 0.2M parameters, for tests."""

    latent_dim: Annotated[int, Ge(1)] = 64
    hidden_dim: Annotated[int, Ge(1)] = 64
    encoder_hidden_dim: Annotated[int, Ge(1)] = 64


@dataclass(frozen=True)
class LatentModelM(LatentModelConfig):
    """TD-MPC2's 5M model."""

    latent_dim: Annotated[int, Ge(1)] = 512
    hidden_dim: Annotated[int, Ge(1)] = 512
    num_q: Annotated[int, Ge(1)] = 5


@dataclass(frozen=True)
class LatentModelL(LatentModelConfig):
    """About 19M parameters."""

    latent_dim: Annotated[int, Ge(1)] = 768
    hidden_dim: Annotated[int, Ge(1)] = 1024
    encoder_hidden_dim: Annotated[int, Ge(1)] = 1024
    num_q: Annotated[int, Ge(1)] = 5


@dataclass(frozen=True)
class LatentModelXL(LatentModelConfig):
    """About 48M parameters."""

    latent_dim: Annotated[int, Ge(1)] = 768
    hidden_dim: Annotated[int, Ge(1)] = 1792
    encoder_hidden_dim: Annotated[int, Ge(1)] = 1792
    num_q: Annotated[int, Ge(1)] = 5


class LatentModel(nn.Module):
    """Latent dynamics, reward, Q ensemble and policy prior over encoder features.

    Args:
        config: sizes.
        feature_dim: width of the encoder features that `encode` reads.
        action_dim: number of action dimensions, A; actions lie in [-1, 1].
    """

    def __init__(self, config: LatentModelConfig, feature_dim: int, action_dim: int):
        super().__init__()
        self.config = config
        self.feature_dim = feature_dim
        self.action_dim = action_dim
        latent, hidden = config.latent_dim, config.hidden_dim
        simnorm = SimNorm(config.simnorm_group)
        self.two_hot = TwoHot(config.bins)
        self._encoder = mlp(feature_dim, [config.encoder_hidden_dim], latent, simnorm)
        self._dynamics = mlp(latent + action_dim, [hidden, hidden], latent, simnorm)
        self._reward = mlp(latent + action_dim, [hidden, hidden], config.bins)
        self._policy = mlp(latent, [hidden, hidden], 2 * action_dim)
        self._q = EnsembleMLP(config.num_q, latent + action_dim, hidden, config.bins, config.dropout)
        self.apply(_init_linear)
        for head in (self._reward[-1], self._q.output):  # every reward and value starts at zero
            head.get_parameter("weight").data.zero_()
        self._target_q = copy.deepcopy(self._q).requires_grad_(False)

    def train(self, mode: bool = True) -> "LatentModel":
        """As in every module, but the target Q-functions never drop out: their values are targets."""
        super().train(mode)
        self._target_q.eval()
        return self

    def encode(self, features: Tensor) -> Tensor:
        """Encoder features (..., feature_dim) to latents (..., D)."""
        return self._encoder(features)

    def next(self, z: Tensor, action: Tensor) -> Tensor:
        """The latent one step later: (..., D), (..., A) -> (..., D)."""
        return self._dynamics(torch.cat([z, action], -1))

    def reward_logits(self, z: Tensor, action: Tensor) -> Tensor:
        """Two-hot logits of the reward of `action` at `z`: (..., bins)."""
        return self._reward(torch.cat([z, action], -1))

    def reward(self, z: Tensor, action: Tensor) -> Tensor:
        """Expected reward of `action` at `z`: (...)."""
        return self.two_hot.decode(self.reward_logits(z, action))

    def q_logits(self, z: Tensor, action: Tensor, target: bool = False) -> Tensor:
        """Two-hot logits of every Q-function: (B, D), (B, A) -> (K, B, bins)."""
        q = self._target_q if target else self._q
        return q(torch.cat([z, action], -1))

    def q(self, z: Tensor, action: Tensor, target: bool = False) -> Tensor:
        """Values of every Q-function: (B, D), (B, A) -> (K, B)."""
        return self.two_hot.decode(self.q_logits(z, action, target))

    def pi(self, z: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The policy at z (..., D): a sampled action (..., A), its log-probability (...), the mean action."""
        mean, log_std = self._policy(z).chunk(2, -1)
        low, high = self.config.log_std_min, self.config.log_std_max
        log_std = low + 0.5 * (high - low) * (log_std.tanh() + 1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        raw = mean + noise * log_std.exp()
        action = raw.tanh()
        log_prob = (-0.5 * noise**2 - log_std - 0.9189385).sum(-1)  # the constant is log sqrt(2 pi)
        log_prob = log_prob - (1 - action**2 + 1e-6).log().sum(-1)
        return action, log_prob, mean.tanh()

    @torch.no_grad()
    def update_target(self, rate: float) -> None:
        """Moves the target Q-functions towards the trained ones: target += rate (q - target)."""
        for target, source in zip(self._target_q.parameters(), self._q.parameters(), strict=True):
            target.lerp_(source, rate)

    def policy_parameters(self) -> list[nn.Parameter]:
        """Parameters that the policy loss trains."""
        return list(self._policy.parameters())

    def model_parameters(self) -> list[nn.Parameter]:
        """Parameters that the model and value losses train."""
        parts = (self._encoder, self._dynamics, self._reward, self._q)
        return [p for part in parts for p in part.parameters()]


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
