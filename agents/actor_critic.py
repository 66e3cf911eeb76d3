"""The actor-critic agent: the policy acts alone, trained on imagined rollouts with lambda-returns.

As in Dreamer (Hafner et al. 2020), the gradient of the returns flows through the imagined dynamics.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from einops import rearrange
from torch import Tensor

from mindreel.agents.learner import Learner, LearnerConfig


@dataclass(frozen=True)
class ActorCriticConfig(LearnerConfig):
    """The agent whose policy acts alone and learns in imagination."""

    imagination_horizon: Annotated[int, Ge(1)] = 5
    """Steps that the policy is rolled out for in the latent model."""
    lambda_: Annotated[float, Interval(ge=0, le=1)] = 0.95
    """Fraction of the longer returns in the lambda-return; 0 trusts the value after one step."""
    imagination_starts: Annotated[int, Ge(1)] = 256
    """Latents of a batch that imagination starts from."""


class ActorCriticAgent(Learner):
    """Acts with the policy's sample in training and its mean in evaluation."""

    config: ActorCriticConfig

    def policy_loss(self, zs: Tensor, not_terminated: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Maximises the lambda-return of imagined rollouts and the entropy along them."""
        config, model = self.config, self.model
        z = rearrange(zs, "b t d -> (b t) d")
        z = z[torch.randperm(z.shape[0], device=z.device)[: config.imagination_starts]]
        rewards, values, log_probs = [], [], []
        for _ in range(config.imagination_horizon):
            action, log_prob, _ = model.pi(z)
            rewards.append(model.reward(z, action))
            log_probs.append(log_prob)
            z = model.next(z, action)
            values.append(model.q(z, model.pi(z)[0]).mean(0))
        returns = lambda_returns(
            torch.stack(rewards), torch.stack(values), self.discount, config.lambda_
        )  # (horizon, B)
        entropy = -torch.stack(log_probs)
        weights = self.discount ** torch.arange(len(rewards), device=z.device).unsqueeze(-1)
        loss = -(weights * (self._scale(returns) + config.entropy_coef * entropy)).mean()
        return loss, {"policy_entropy": entropy.mean().detach(), "q_mean": returns.mean().detach()}

    @torch.no_grad()
    def act(self, features: Tensor, first: Tensor, explore: bool) -> Tensor:
        """Actions for all worlds: features (B, D), `first` (B,) marks new episodes; returns (B, A)."""
        sample, _, mean = self.model.pi(self.model.encode(features))
        return sample if explore else mean


def lambda_returns(reward: Tensor, next_value: Tensor, discount: float, lambda_: float) -> Tensor:
    """Exponentially weighted mixture of n-step returns (Sutton & Barto, eq. 12.18).

    Args:
        reward: rewards of steps 0..T-1, (T, ...).
        next_value: values of the states after each of these steps, (T, ...).

    Returns:
        (T, ...): R[t] = reward[t] + discount ((1 - lambda) next_value[t] + lambda R[t + 1]).
    """
    result = next_value[-1]
    returns = []
    for t in reversed(range(reward.shape[0])):
        result = reward[t] + discount * ((1 - lambda_) * next_value[t] + lambda_ * result)
        returns.append(result)
    return torch.stack(returns[::-1])
