"""The planning agent: a policy trained to climb the Q-functions proposes, MPPI decides (TD-MPC2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from mindreel.agents.learner import Learner, LearnerConfig
from mindreel.agents.planner import Planner, PlannerConfig
from mindreel.world_model.latent_model import LatentModel


@dataclass(frozen=True)
class MPCConfig(LearnerConfig):
    """The agent that plans with MPPI through the latent model."""

    planner: PlannerConfig = field(default_factory=PlannerConfig)
    """The planner, in evaluation and, with plan_in_training, while collecting."""
    plan_in_training: bool = True
    """Plan while collecting data too; otherwise the policy collects, which costs far less."""


class MPCAgent(Learner):
    """Plans at every decision. Without planning it is its policy, `model.pi(model.encode(features))`."""

    config: MPCConfig
    plans = True

    def __init__(
        self,
        config: MPCConfig,
        model: LatentModel,
        discount: float,
        encoder_parameters: list[nn.Parameter] | None = None,
    ):
        super().__init__(config, model, discount, encoder_parameters)
        self.planner = Planner(config.planner, model, discount)

    def policy_loss(self, zs: Tensor, not_terminated: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Maximises the mean of two Q-functions and the entropy at every latent of the unrolled model."""
        batch, length = zs.shape[:2]
        flat = rearrange(zs, "b t d -> (b t) d")
        action, log_prob, _ = self.model.pi(flat)
        q = self.model.q(flat, action)[torch.randperm(self.model.config.num_q)[:2]].mean(0)
        q, log_prob = (rearrange(x, "(b t) -> b t", b=batch) for x in (q, log_prob))
        objective = self._scale(q) - self.config.entropy_coef * log_prob
        weights = self.config.rho ** torch.arange(length, device=zs.device)
        loss = -(weights * objective).mean()
        return loss, {"policy_entropy": -log_prob.mean().detach(), "q_mean": q.mean().detach()}

    @torch.no_grad()
    def act(self, features: Tensor, first: Tensor, explore: bool) -> Tensor:
        """Actions for all worlds: features (B, D), `first` (B,) marks new episodes; returns (B, A)."""
        z = self.model.encode(features)
        if explore and not self.config.plan_in_training:
            return self.model.pi(z)[0]
        return self.planner.plan(z, first, explore)

    @contextmanager
    def in_other_worlds(self) -> Iterator[None]:
        """Plans in between start from nothing, and those of the worlds that it trains in are kept for later."""
        kept = self.planner.previous_mean
        self.planner.reset()
        try:
            yield
        finally:
            self.planner.previous_mean = kept

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """Everything that training changes, and the plans that the next ones start from."""
        return super().state_dict() | {"previous_mean": self.planner.previous_mean}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`; the state of an agent that does not plan is taken as well."""
        super().load_state_dict(state)
        self.planner.previous_mean = state.get("previous_mean")
