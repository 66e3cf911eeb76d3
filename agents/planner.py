"""Planning by model predictive path integral control (MPPI) over latents, for all worlds in one batch.

Williams et al. 2015; in latent space with a policy prior as in TD-MPC2 (Hansen et al. 2024).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from einops import rearrange, repeat
from torch import Tensor

from mindreel.world_model.latent_model import LatentModel


@dataclass(frozen=True)
class PlannerConfig:
    """How many futures the planner imagines, and how it narrows them down."""

    samples: Annotated[int, Ge(1)] = 512
    """Action sequences drawn in each iteration, S."""
    policy_samples: Annotated[int, Ge(0)] = 24
    """Of these, sequences proposed by the policy."""
    elites: Annotated[int, Ge(1)] = 64
    """Best sequences that the next distribution is fitted to."""
    iterations: Annotated[int, Ge(1)] = 6
    """Rounds of sampling and refitting."""
    horizon: Annotated[int, Ge(1)] = 3
    """Steps imagined before the value function takes over."""
    temperature: Annotated[float, Gt(0)] = 0.5
    """Sharpness of the weights of the elites: weight = exp(temperature (value - best))."""
    min_std: Annotated[float, Gt(0)] = 0.05
    """Least standard deviation of the sampled actions."""
    max_std: Annotated[float, Gt(0)] = 2.0
    """Standard deviation that each plan starts from."""

    def __post_init__(self):
        if not 0 <= self.policy_samples <= self.samples:
            raise ValueError(f"policy_samples ({self.policy_samples}) must be between 0 and samples ({self.samples}).")
        if self.elites > self.samples:
            raise ValueError(f"elites ({self.elites}) are chosen among samples ({self.samples}): at most as many.")
        if self.min_std > self.max_std:
            raise ValueError(f"min_std ({self.min_std}) must be at most max_std ({self.max_std}).")
        if min(self.elites, self.iterations, self.horizon) < 1:
            raise ValueError(
                f"elites ({self.elites}), iterations ({self.iterations}) and horizon ({self.horizon}) must be "
                "at least 1."
            )


class Planner:
    """MPPI with warm start and policy proposals.

    The plan of each world is kept between calls and shifted by one step; a world that starts an episode
    starts from no plan.
    """

    def __init__(self, config: PlannerConfig, model: LatentModel, discount: float):
        self.config = config
        self.model = model
        self.discount = discount
        self.previous_mean: Tensor | None = None  # (B, horizon, A)

    def reset(self) -> None:
        """Forgets the plans of all worlds."""
        self.previous_mean = None

    @torch.no_grad()
    def plan(self, z: Tensor, first: Tensor, explore: bool) -> Tensor:
        """Plans from latents.

        Args:
            z: present latents, (B, D).
            first: worlds that start an episode, (B,) bool.
            explore: draw an elite by its weight and add noise, as in training; otherwise take the mean.

        Returns:
            one action for each world, (B, A), in [-1, 1].
        """
        config = self.config
        batch, samples, action_dim = z.shape[0], config.samples, self.model.action_dim
        mean = self._warm_start(z, first)  # (B, horizon, A)
        std = torch.full_like(mean, config.max_std)
        proposals = self._policy_proposals(z)  # (B, P, horizon, A)
        drawn = samples - config.policy_samples
        elites = weights = mean  # replaced in the first round
        for _ in range(config.iterations):
            noise = torch.randn(batch, drawn, config.horizon, action_dim, device=z.device)
            actions = (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(-1, 1)
            actions = torch.cat([actions, proposals], 1)  # (B, S, horizon, A)
            values = self._value(z, actions)  # (B, S)
            best, index = values.topk(min(config.elites, samples), dim=1)  # (B, elites)
            elites = actions.gather(1, index[..., None, None].expand(-1, -1, config.horizon, action_dim))
            # The best value is taken off before the exponential, which could overflow otherwise.
            weights = (config.temperature * (best - best[:, :1])).softmax(1)  # (B, elites)
            spread = weights[..., None, None]
            mean = (spread * elites).sum(1)
            std = (spread * (elites - mean.unsqueeze(1)).pow(2)).sum(1).sqrt()
            std = std.clamp(config.min_std, config.max_std)
        self.previous_mean = mean
        if not explore:
            return mean[:, 0]
        choice = torch.multinomial(weights, 1)  # (B, 1)
        action = elites[torch.arange(batch, device=z.device), choice[:, 0], 0]
        return (action + std[:, 0] * torch.randn_like(action)).clamp(-1, 1)

    def _warm_start(self, z: Tensor, first: Tensor) -> Tensor:
        shape = (z.shape[0], self.config.horizon, self.model.action_dim)
        if self.previous_mean is None or self.previous_mean.shape != shape:
            return torch.zeros(shape, device=z.device)
        shifted = torch.cat([self.previous_mean[:, 1:], torch.zeros_like(self.previous_mean[:, :1])], 1)
        return shifted * (~first)[:, None, None]

    def _policy_proposals(self, z: Tensor) -> Tensor:
        count = self.config.policy_samples
        z = repeat(z, "b d -> b p d", p=count)
        actions = []
        for _ in range(self.config.horizon):
            action, _, _ = self.model.pi(z)
            actions.append(action)
            z = self.model.next(z, action)
        return torch.stack(actions, 2)

    def _value(self, z: Tensor, actions: Tensor) -> Tensor:
        """Discounted value of action sequences (B, S, horizon, A) from z (B, D): (B, S)."""
        batch, samples = actions.shape[:2]
        z = repeat(z, "b d -> (b s) d", s=samples)
        actions = rearrange(actions, "b s t a -> (b s) t a")
        value = torch.zeros(batch * samples, device=z.device)
        discount = 1.0
        for t in range(self.config.horizon):
            value = value + discount * self.model.reward(z, actions[:, t])
            z = self.model.next(z, actions[:, t])
            discount *= self.discount
        action, _, _ = self.model.pi(z)
        value = value + discount * self.model.q(z, action).mean(0)
        worst = torch.finfo(value.dtype).min  # a broken future is the last choice, whatever rewards' scale
        return rearrange(value.nan_to_num(worst, worst, worst), "(b s) -> b s", b=batch)
