"""The base of both agents: training the latent model, its rewards and its values on replayed sequences."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from annotated_types import Ge, Gt, Interval
from einops import rearrange, repeat
from torch import Tensor, nn

from mindreel.world_model.latent_model import LatentModel

_LEAST_LATENT_STD = 0.01  # 0.05 to 0.16 in runs that learn, 0.0003 to 0.005 in those that collapsed
Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class LearnerConfig:
    """How the latent model, the values and the policy are trained (defaults after TD-MPC2)."""

    horizon: Annotated[int, Ge(1)] = 3
    """Steps T that the model is unrolled for in training and in planning."""
    batch_size: Annotated[int, Ge(1)] = 256
    """Sequences in a batch, B."""
    rho: Annotated[float, Interval(gt=0, le=1)] = 0.5
    """Weight of a step t of the unrolled loss is rho^t."""
    consistency_coef: Annotated[float, Ge(0)] = 20.0
    """Weight of the latent prediction loss."""
    reward_coef: Annotated[float, Ge(0)] = 0.1
    """Weight of the reward loss."""
    value_coef: Annotated[float, Ge(0)] = 0.1
    """Weight of the value loss."""
    entropy_coef: Annotated[float, Ge(0)] = 1e-4
    """Weight of the policy's entropy."""
    lr: Annotated[float, Gt(0)] = 3e-4
    """Learning rate of model, values and policy."""
    encoder_lr_scale: Annotated[float, Ge(0)] = 0.3
    """Learning rate of the layers from encoder features to z, as a fraction of lr."""
    trained_encoder_lr_scale: Annotated[float, Ge(0)] = 0.3
    """The same where the agent's losses reach the encoder, and for that encoder: at a high rate they soon make its
    features the same for all pictures, which are then easy to predict."""
    grad_clip: Annotated[float, Gt(0)] = 20.0
    """Greatest norm of a gradient."""
    target_rate: Annotated[float, Interval(gt=0, le=1)] = 0.01
    """Fraction of the way that the target Q-functions move at each update."""
    n_step: Annotated[int, Ge(1)] = 1
    """Rewards summed before a value target bootstraps: more carry values further back in each update."""


class Learner:
    """Trains a `LatentModel`; subclasses say how the policy learns and how the agent acts.

    Args:
        config: hyperparameters.
        model: the latent model, on the device that everything runs on.
        discount: discount factor per decision.
        encoder_parameters: parameters of the video encoder where the agent's losses reach it.
    """

    def __init__(
        self,
        config: LearnerConfig,
        model: LatentModel,
        discount: float,
        encoder_parameters: list[nn.Parameter] | None = None,
    ):
        self.config = config
        self.model = model
        self.discount = discount
        encoder_ids = {id(p) for p in model._encoder.parameters()}
        slow = [p for p in model.model_parameters() if id(p) in encoder_ids] + list(encoder_parameters or [])
        fast = [p for p in model.model_parameters() if id(p) not in encoder_ids]
        self._model_parameters = slow + fast
        scale = config.trained_encoder_lr_scale if encoder_parameters else config.encoder_lr_scale
        self.model_optimizer = torch.optim.Adam(
            [{"params": slow, "lr": config.lr * scale}, {"params": fast, "lr": config.lr}]
        )
        self.policy_optimizer = torch.optim.Adam(model.policy_parameters(), lr=config.lr, eps=1e-5)
        self.value_scale = torch.ones((), device=next(model.parameters()).device)

    # ---- training ----

    def update(
        self,
        features: Tensor,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        extra_loss: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One gradient step on a batch of sequences.

        Sequences have L = horizon + n_step - 1 steps: the model is unrolled over the first `horizon`, the
        rest serve the value targets.

        Args:
            features: encoder features of L + 1 observations, (B, L + 1, D).
            action: the L actions between them, (B, L, A).
            reward: the L rewards, (B, L).
            terminated: whether the episode ended for good with the step, (B, L) bool or float.
            extra_loss: added to the model's loss: the objective of an encoder that is trained along.

        Returns:
            losses and statistics, detached scalars.
        """
        config, model = self.config, self.model
        model.train()
        not_terminated = 1 - terminated.float()
        zs, metrics = self._model_step(features, action, reward, not_terminated, extra_loss)
        policy_metrics = self._policy_step(zs, not_terminated)
        model.update_target(config.target_rate)
        model.eval()
        return metrics | policy_metrics

    def _model_step(
        self,
        features: Tensor,
        action: Tensor,
        reward: Tensor,
        not_terminated: Tensor,
        extra_loss: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config, model = self.config, self.model
        steps = config.horizon
        with torch.no_grad():
            next_z = model.encode(features[:, 1:])  # (B, L, D)
            td_target = self._td_target(next_z[:, config.n_step - 1 :], reward, not_terminated)  # (B, T)
        action, reward, not_terminated = action[:, :steps], reward[:, :steps], not_terminated[:, :steps]
        weights = config.rho ** torch.arange(steps, device=reward.device)  # (T,)
        # A step after a termination inside the sequence belongs to no episode: it carries no weight.
        alive = torch.cat([torch.ones_like(not_terminated[:, :1]), not_terminated[:, :-1]], 1).cumprod(1)
        weights = weights * alive / (alive.sum() / steps)  # (B, T), sums to rho's sum

        z = model.encode(features[:, 0])  # (B, D)
        zs = [z]
        consistency = torch.zeros((), device=reward.device)
        for t in range(steps):
            z = model.next(z, action[:, t])
            consistency = consistency + (weights[:, t] * (z - next_z[:, t]).pow(2).mean(-1)).sum()
            zs.append(z)
        stacked = torch.stack(zs, 1)  # (B, T + 1, D)
        flat_z, flat_action = (rearrange(x, "b t d -> (b t) d") for x in (stacked[:, :-1], action))
        flat_weights, flat_reward, flat_target = (rearrange(x, "b t -> (b t)") for x in (weights, reward, td_target))
        reward_loss = model.two_hot.loss(model.reward_logits(flat_z, flat_action), flat_reward)
        q_logits = model.q_logits(flat_z, flat_action)  # (K, B * T, bins)
        value_loss = model.two_hot.loss(q_logits, repeat(flat_target, "n -> k n", k=len(q_logits))).mean(0)
        consistency = consistency / steps
        reward_loss = (flat_weights * reward_loss).sum() / steps
        value_loss = (flat_weights * value_loss).sum() / steps
        losses = {"consistency_loss": consistency, "reward_loss": reward_loss, "value_loss": value_loss}
        loss = self.model_loss(losses)
        if extra_loss is not None:
            loss = loss + extra_loss
        self.model_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self._model_parameters, config.grad_clip)
        self.model_optimizer.step()
        return stacked.detach(), {name: loss.detach() for name, loss in losses.items()} | {
            "model_grad_norm": grad_norm.detach(),
            "latent_std": zs[0].detach().std(0, correction=0).mean(),  # over the batch: near 0 is collapse
        }

    def model_loss(self, losses: Mapping[str, Number]) -> Number:
        """The weighted sum of the model's losses, by their names in the metrics."""
        config = self.config
        return (
            config.consistency_coef * losses["consistency_loss"]
            + config.reward_coef * losses["reward_loss"]
            + config.value_coef * losses["value_loss"]
        )

    def _td_target(self, z: Tensor, reward: Tensor, not_terminated: Tensor) -> Tensor:
        """n-step targets from latents n steps on (B, T, D), rewards and flags of all L steps: (B, T)."""
        flat = rearrange(z, "b t d -> (b t) d")
        action, _, _ = self.model.pi(flat)
        target = rearrange(self._min_of_two(self.model.q(flat, action, target=True)), "(b t) -> b t", b=len(z))
        steps = self.config.horizon
        for k in reversed(range(self.config.n_step)):
            target = reward[:, k : k + steps] + self.discount * not_terminated[:, k : k + steps] * target
        return target

    def _min_of_two(self, values: Tensor) -> Tensor:
        """(K, ...) -> (...): the smaller of two random members, which counters overestimation (REDQ)."""
        if values.shape[0] > 2:
            values = values[torch.randperm(values.shape[0], device=values.device)[:2]]
        return values.amin(0)

    def _policy_step(self, zs: Tensor, not_terminated: Tensor) -> dict[str, Tensor]:
        with frozen(self.model._q, self.model._dynamics, self.model._reward):
            loss, metrics = self.policy_loss(zs, not_terminated)
            self.policy_optimizer.zero_grad(set_to_none=True)
            loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.model.policy_parameters(), self.config.grad_clip)
        self.policy_optimizer.step()
        return {"policy_loss": loss.detach(), "policy_grad_norm": grad_norm.detach(), **metrics}

    def policy_loss(self, zs: Tensor, not_terminated: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the policy at latents (B, T + 1, D), and statistics to log."""
        raise NotImplementedError

    def _scale(self, values: Tensor) -> Tensor:
        """Divides values by their running 5-95% range, so that one entropy weight suits every task."""
        low, high = torch.quantile(values.detach().flatten()[:4096], values.new_tensor([0.05, 0.95]))
        self.value_scale.lerp_((high - low).clamp(min=1.0), 0.01)
        return values / self.value_scale

    # ---- acting ----

    plans = False
    """Whether `act` decides otherwise than by the policy alone."""

    def act(self, features: Tensor, first: Tensor, explore: bool) -> Tensor:
        """Actions for all worlds: features (B, D), `first` (B,) marks new episodes; returns (B, A)."""
        raise NotImplementedError

    @contextmanager
    def in_other_worlds(self) -> Iterator[None]:
        """While it acts in other worlds than those that it trains in, as in an evaluation."""
        yield

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """Everything that training changes."""
        return {
            "model": self.model.state_dict(),
            "model_optimizer": self.model_optimizer.state_dict(),
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "value_scale": self.value_scale,
        }

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.model.load_state_dict(state["model"])
        self.model_optimizer.load_state_dict(state["model_optimizer"])
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        self.value_scale.copy_(state["value_scale"])


class CollapseWarning:
    """Warns once if latents do not tell observations apart.

    Args:
        remedy: the field of the config that helps, when it is lowered.
    """

    def __init__(self, remedy: str):
        self.remedy, self.given = remedy, False

    def check(self, std: float, updates: int) -> None:
        """Takes the standard deviation of latents over a batch, after so many updates."""
        if std >= _LEAST_LATENT_STD or self.given:
            return
        self.given = True
        warnings.warn(
            f"After {updates:,} updates the latents are nearly the same whatever the agent sees: their standard "
            f"deviation over a batch is {std:.4f}, where 0.05 to 0.16 is usual. Either little happens in these worlds, "
            f"or the latents have collapsed, against which a lower {self.remedy} helps.",
            stacklevel=2,
        )


@contextmanager
def frozen(*modules: nn.Module):
    """Gradients flow through these modules but not into their parameters, which saves computing those."""
    parameters = [p for module in modules for p in module.parameters()]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
