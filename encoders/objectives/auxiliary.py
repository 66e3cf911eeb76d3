"""Auxiliary losses that tie a clip's embedding to what follows: coming frames, actions and rewards.

Any objective on the video transformer can be combined with them. Each loss has a coefficient; 0 switches it off.
A forward model predicts the embeddings of the K following steps from the clip's embedding and the actions. On these:
- future: predict principal components of the frames. They are whitened, so the targets are few, of equal size, and
  cannot collapse;
- contrast: pick the teacher's embedding of the clip out of those of the batch, for the clip itself and for the one K
  steps later (InfoNCE; van den Oord et al. 2018, ATC: Stooke et al. 2021);
- reward: predict the rewards (MWM, Seo et al. 2022).
On the clip's embedding itself:
- variance, covariance: avoid collapse and correlated features (VICReg, Bardes et al. 2022);
- inverse: predict the mean action from the embeddings before and after (eb_jepa, Terver et al. 2026).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mindreel.encoders.backbone.readout import whitening


@dataclass(frozen=True)
class AuxiliaryConfig:
    """Auxiliary losses on the clip's embedding. All are off unless an encoder switches them on."""

    future_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of predicting the principal components of the coming frames."""
    future_components: Annotated[int, Ge(1)] = 32
    """Principal components of a frame that are predicted."""
    change_components: Annotated[int, Ge(1)] = 32
    """Principal components of the change from one frame to the next that are predicted too."""
    future_pool: Annotated[int, Ge(1)] = 2
    """Pixels, in height and width, averaged before the components are taken."""
    contrast_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of picking the teacher's embedding, of the clip and of the one K actions later, out of the batch."""
    contrast_temperature: Annotated[float, Gt(0)] = 0.1
    """Temperature that divides the cosines of the contrastive loss."""
    reward_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of predicting the rewards."""
    variance_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of the hinge that keeps each embedding feature's standard deviation above 1."""
    covariance_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of the squared correlations between embedding features."""
    inverse_coef: Annotated[float, Ge(0)] = 0.0
    """Weight of predicting the mean action from the embeddings before and after."""

    def __post_init__(self):
        if min(self.future_components, self.change_components) < 0 or self.future_pool < 1:
            raise ValueError(
                "future_components and change_components must be 0 or more and future_pool 1 or more, got "
                f"{self.future_components}, {self.change_components} and {self.future_pool}."
            )
        if self.contrast_temperature <= 0:
            raise ValueError(f"contrast_temperature must be above 0, got {self.contrast_temperature}.")

    @property
    def active(self) -> bool:
        """Whether any loss is on."""
        return self.predictive or bool(self.variance_coef or self.covariance_coef or self.inverse_coef)

    @property
    def predictive(self) -> bool:
        """Whether any loss needs predicted embeddings."""
        return bool(self.future_coef or self.contrast_coef or self.reward_coef)


class AuxiliaryLosses(nn.Module):
    """The losses and the small networks that they need.

    Args:
        config: weights of the losses.
        width: width of the embedding, E.
        action_dim: number of action dimensions, A.
        image_size: height and width of a frame, in pixels.
    """

    frame_components: Tensor
    change_components: Tensor
    reward_scale: Tensor

    def __init__(self, config: AuxiliaryConfig, width: int, action_dim: int, image_size: int):
        super().__init__()
        self.config = config
        self.projector = mlp(width, width, width)
        self.forward_model = mlp(width + action_dim, width, width)
        self.inverse_model = mlp(2 * width, width, action_dim)
        self.reward_model = mlp(width + action_dim, width, 1)
        self.component_head = nn.Linear(width, config.future_components + config.change_components)
        pixels = 3 * (image_size // config.future_pool) ** 2
        self.register_buffer("frame_components", torch.zeros(pixels, config.future_components))
        self.register_buffer("change_components", torch.zeros(pixels, config.change_components))
        self.register_buffer("reward_scale", torch.ones(()))

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Sets the principal components and the scale of the rewards: targets, on which no feature depends.

        Args:
            frames: pairs of successive frames, centred, in any unit, (N, 2, 3, H, W).
            reward: rewards (N,).
        """
        self.reward_scale.copy_(reward.std().clamp(min=1e-3))
        before, now = rearrange(self._pooled(frames), "n two pixels -> two n pixels")
        for components, values in ((self.frame_components, now), (self.change_components, now - before)):
            components.copy_(whitening(values, components.shape[1]))

    def forward(
        self,
        embedding: Tensor,
        frames: Tensor,
        action: Tensor,
        reward: Tensor,
        teacher_embeddings: tuple[Tensor, Tensor] | None = None,
        after: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms by name.

        Args:
            embedding: of the clip, (B, E).
            frames: centred as in `fit`, the clip's last two and the K that follow, (B, K + 2, 3, H, W).
            action: the K actions taken after the clip's newest frame, (B, K, A).
            reward: the rewards of these actions, (B, K).
            teacher_embeddings: of the clip and of the one K actions later, (B, E) each; needed by contrast.
            after: the embedding of the clip K actions later, (B, E); needed by inverse.
        """
        config = self.config
        losses = self.collapse_losses(embedding)
        if config.inverse_coef:
            assert after is not None
            guess = self.inverse_model(torch.cat([embedding, after], -1))
            losses["inverse_loss"] = config.inverse_coef * F.mse_loss(guess, action.mean(1))
        if not config.predictive:
            return losses
        predicted, rewards = self._predict(embedding, action)  # (B, K + 1, E), (B, K)
        if config.future_coef:
            losses["future_loss"] = config.future_coef * self._future_loss(predicted, frames)
        if config.contrast_coef:
            assert teacher_embeddings is not None
            now, then = teacher_embeddings
            contrast = self._contrast_loss(predicted[:, 0], now) + self._contrast_loss(predicted[:, -1], then)
            losses["contrast_loss"] = config.contrast_coef * contrast / 2
        if config.reward_coef:
            losses["reward_loss"] = config.reward_coef * F.mse_loss(rewards, reward / self.reward_scale)
        return losses

    def collapse_losses(self, embedding: Tensor) -> dict[str, Tensor]:
        """Variance and covariance terms of embeddings (B, E)."""
        config = self.config
        losses = {}
        if config.variance_coef:
            losses["variance_loss"] = config.variance_coef * variance_loss(embedding)
        if config.covariance_coef:
            losses["covariance_loss"] = config.covariance_coef * covariance_loss(embedding)
        return losses

    def _predict(self, embedding: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, E) and actions (B, K, A) to predicted embeddings (B, K + 1, E) and rewards (B, K)."""
        predicted, rewards = [embedding], []
        for k in range(action.shape[1]):
            both = torch.cat([predicted[-1], action[:, k]], -1)
            rewards.append(self.reward_model(both).squeeze(-1))
            predicted.append(predicted[-1] + self.forward_model(both))
        return torch.stack(predicted, 1), torch.stack(rewards, 1)

    def _future_loss(self, predicted: Tensor, frames: Tensor) -> Tensor:
        """Error of the components predicted from embeddings (B, K + 1, E), of frames (B, K + 2, 3, H, W)."""
        pooled = self._pooled(frames)  # (B, K + 2, P)
        now, change = pooled[:, 1:], pooled[:, 1:] - pooled[:, :-1]
        target = torch.cat([now @ self.frame_components, change @ self.change_components], -1)  # (B, K + 1, C)
        return F.mse_loss(self.component_head(predicted), target)

    def _pooled(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W) averaged over small squares, as rows: (B, T, P), where P = 3 H W / pool^2."""
        pooled = F.avg_pool2d(rearrange(frames, "b t c h w -> (b t) c h w"), self.config.future_pool)
        return rearrange(pooled, "(b t) c h w -> b t (c h w)", b=len(frames))

    def _contrast_loss(self, embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """InfoNCE between embeddings (B, E) and the teacher's of the same clips (B, E)."""
        centred = teacher_embedding - teacher_embedding.mean(0)
        target = F.normalize(centred / (teacher_embedding.std(0) + 1e-4), dim=-1)
        query = F.normalize(self.projector(embedding), dim=-1)
        logits = query @ target.T / self.config.contrast_temperature  # (B, B)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def variance_loss(embedding: Tensor) -> Tensor:
    """Mean over features of max(0, 1 - standard deviation): (B, E) -> ()."""
    return F.relu(1 - (embedding.var(0) + 1e-4).sqrt()).mean()


def covariance_loss(embedding: Tensor) -> Tensor:
    """Sum of the squared covariances between different features, divided by E: (B, E) -> ()."""
    centred = embedding - embedding.mean(0)
    covariance = centred.T @ centred / (embedding.shape[0] - 1)
    off_diagonal = covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()
    return off_diagonal / embedding.shape[1]


def mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Two linear layers, with LayerNorm and SiLU between them."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, out_dim)
    )
