"""V-JEPA on an agent's rollouts: predict hidden tokens of a clip in feature space, with a moving-average teacher.

Bardes et al. 2024 (V-JEPA), Assran et al. 2025 (V-JEPA 2). Alone it learns little about small moving bodies
before a still background: predicting the background is enough. So frames come with their mean taken off, the
hidden blocks lie where things move, and further terms act on the clip's embedding, which is what the agent
receives. Each has a coefficient, and 0 switches it off:
- future: the embedding, carried on by the actions, predicts principal components of the coming frames. They
  are whitened, so the targets are few, of one size, and cannot collapse;
- contrast: the embedding, now and carried on by the actions, picks the teacher's embedding of the clip at that
  time from among the batch's others (InfoNCE; van den Oord et al. 2018, ATC: Stooke et al. 2021);
- reward: the rewards on the way (MWM, Seo et al. 2022);
- variance, covariance (VICReg, Bardes et al. 2022), inverse dynamics (which actions led from one clip to
  another; eb_jepa, Terver et al. 2026).
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import Encoder, check_training_mode
from encoders.masks import MaskConfig, sample_masks
from encoders.vit import Block, VideoTransformer, ViTConfig, gather_tokens, sincos_positions


@dataclass(frozen=True)
class VJEPAConfig:
    """V-JEPA pretrained on the agent's own rollouts."""

    vit: ViTConfig = field(default_factory=ViTConfig)
    """The video transformer."""
    masks: MaskConfig = field(default_factory=MaskConfig)
    """Which tokens are hidden from the encoder and predicted."""
    training_mode: str = "refresh"
    """frozen (pretrained once), refresh (again on the agent's rollouts), cotrain (the agent's losses reach it)."""
    embedding_dim: int = 256
    """Width of the clip embedding that the agent receives."""
    token_channels: int = 16
    """Channels that each token is squeezed to before the embedding reads all of them."""
    predictor_dim: int = 64
    """Width of the predictor of hidden tokens."""
    predictor_depth: int = 1
    """Transformer blocks of that predictor."""
    jepa_coef: float = 1.0
    """Weight of V-JEPA's own loss."""
    jepa_share: float = 0.5
    """Share of a batch's clips that V-JEPA's own loss is computed on; it costs as much as all other terms."""
    future_coef: float = 1.0
    """Weight of predicting the principal components of the coming frames."""
    future_components: int = 32
    """Principal components of a frame that are predicted."""
    change_components: int = 32
    """Principal components of the change from one frame to the next that are predicted besides."""
    future_pool: int = 2
    """Pixels, in height and width, averaged before the components are taken."""
    contrast_coef: float = 1.0
    """Weight of recognising the teacher's embedding, now and after K actions, among those of other clips."""
    contrast_temperature: float = 0.1
    """Divides the cosines that clips are recognised by."""
    reward_coef: float = 1.0
    """Weight of predicting the rewards on the way to these frames."""
    variance_coef: float = 0.0
    """Weight of the hinge that keeps each embedding feature's standard deviation above 1."""
    covariance_coef: float = 0.0
    """Weight of the squared correlations between embedding features."""
    inverse_coef: float = 0.0
    """Weight of telling the mean action from the embeddings before and after."""
    ema_start: float = 0.99
    """Share of the teacher kept at each step, at the beginning of pretraining."""
    ema_end: float = 1.0
    """The same at its end."""


@dataclass(frozen=True)
class RandomConfig(VJEPAConfig):
    """The network of encoder=vjepa, untrained and frozen."""

    training_mode: str = "frozen"
    """Only frozen."""


class VJEPA(Encoder):
    """A video encoder and its pretraining objective.

    Args:
        config: architecture and loss weights.
        action_dim: number of action dimensions, A.
        state_dim: not used; all encoders are built alike.
    """

    mean_frame: Tensor
    pixel_std: Tensor
    frame_components: Tensor
    change_components: Tensor
    reward_scale: Tensor

    def __init__(self, config: VJEPAConfig, action_dim: int, state_dim: int = 0):
        super().__init__()
        allowed = ("frozen",) if isinstance(config, RandomConfig) else ("frozen", "refresh", "cotrain")
        check_training_mode(config.training_mode, allowed)
        if config.vit.frames < 2:
            raise ValueError(
                f"V-JEPA sees motion between frames: encoder.vit.frames must be 2 or more, got {config.vit.frames}."
            )
        self.has_objective = not isinstance(config, RandomConfig)
        self.config = config
        vit, width = config.vit, config.embedding_dim
        self.feature_dim, self.clip_frames, self.training_mode = width, vit.frames, config.training_mode
        self.vit = VideoTransformer(vit)
        self.head = EmbeddingHead(vit.num_tokens, vit.dim, config.token_channels, width)
        self.teacher = copy.deepcopy(self.vit).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.projector = _mlp(width, width, width)
        self.predictor = Predictor(vit, config.predictor_dim, config.predictor_depth)
        self.forward_model = _mlp(width + action_dim, width, width)
        self.inverse_model = _mlp(2 * width, width, action_dim)
        self.reward_model = _mlp(width + action_dim, width, 1)
        self.component_head = nn.Linear(width, config.future_components + config.change_components)
        side = vit.image_size
        self.register_buffer("mean_frame", torch.full((3, side, side), 127.5))
        self.register_buffer("pixel_std", torch.tensor(64.0))
        pixels = 3 * (side // config.future_pool) ** 2
        self.register_buffer("frame_components", torch.zeros(pixels, config.future_components))
        self.register_buffer("change_components", torch.zeros(pixels, config.change_components))
        self.register_buffer("reward_scale", torch.ones(()))

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Sets all that is fitted to rollouts and not learned.

        Args:
            frames: pairs of successive frames, uint8 (N, 2, 3, H, W).
            reward: rewards (N,).
        """
        flat = frames[:, 1].float()
        self.mean_frame.copy_(flat.mean(0))
        self.pixel_std.copy_((flat - self.mean_frame).std().clamp(min=1.0))
        self.fit_targets(frames, reward)

    def fit_targets(self, frames: Tensor, reward: Tensor) -> None:
        """Sets the principal components and the reward's scale alone, which the features do not depend on."""
        self.reward_scale.copy_(reward.std().clamp(min=1e-3))
        before, now = self._pooled(self.normalise(frames.flatten(0, 1))).unflatten(0, (-1, 2)).unbind(1)
        for components, values in ((self.frame_components, now), (self.change_components, now - before)):
            components.copy_(whitening(values, components.shape[1]))

    def fit_like(self, other: "VJEPA") -> None:
        """Takes over what another encoder's features were fitted with."""
        self.mean_frame.copy_(other.mean_frame)
        self.pixel_std.copy_(other.pixel_std)

    def normalise(self, clip: Tensor) -> Tensor:
        """uint8 frames (..., 3, H, W) to float: the mean frame of the rollouts taken off, unit variance.

        What never moves becomes zero, so that neither masks nor features are spent on it.
        """
        return (clip.float() - self.mean_frame) / self.pixel_std

    def _pooled(self, normalised: Tensor) -> Tensor:
        """Normalised frames (N, 3, H, W) made smaller by averaging, as rows: (N, 3 H W / pool^2)."""
        return F.avg_pool2d(normalised, self.config.future_pool).flatten(1)

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), newest frame last, to embeddings (B, E)."""
        return self.head(self.vit(self.normalise(observation)))

    def losses(self, frames: Tensor, action: Tensor, reward: Tensor) -> dict[str, Tensor]:
        """Pretraining losses on sequences of F + K frames: a clip, and what K actions made of it.

        Args:
            frames: uint8 (B, F + K, 3, H, W).
            action: the K actions taken after the clip's newest frame, (B, K, A).
            reward: the rewards of these actions, (B, K).

        Returns:
            weighted terms by name; their sum is the loss.
        """
        config = self.config
        frames = self.normalise(frames)
        clip = frames[:, : self.clip_frames]
        tokens = self.vit.embed(clip)
        embedding = self.head(self.vit.encode(tokens))  # (B, E)
        with torch.no_grad():
            taught = self.teacher(clip)  # (B, N, D)
        losses = self._collapse_losses(embedding)
        if config.jepa_coef:
            count = max(1, round(config.jepa_share * len(clip)))
            losses["vjepa_loss"] = config.jepa_coef * self._masked_loss(clip[:count], tokens[:count], taught[:count])
        if config.inverse_coef:
            after = self.head(self.vit(frames[:, -self.clip_frames :]))
            guess = self.inverse_model(torch.cat([embedding, after], -1))
            losses["inverse_loss"] = config.inverse_coef * F.mse_loss(guess, action.mean(1))
        carried, rewards = self._imagine(embedding, action)  # (B, K + 1, E), (B, K)
        if config.future_coef:
            seen = frames[:, self.clip_frames - 2 :]  # the frame before the newest, and all from there
            losses["future_loss"] = config.future_coef * self._future_loss(carried, seen)
        if config.contrast_coef:
            with torch.no_grad():
                then = self.teacher(frames[:, -self.clip_frames :])
            contrast = self._contrast_loss(carried[:, 0], taught) + self._contrast_loss(carried[:, -1], then)
            losses["contrast_loss"] = config.contrast_coef * contrast / 2
        if config.reward_coef:
            losses["reward_loss"] = config.reward_coef * F.mse_loss(rewards, reward / self.reward_scale)
        if not losses:
            raise ValueError(
                "Every coefficient of the encoder's objective is 0: use encoder=random for an untrained one."
            )
        return losses

    def _masked_loss(self, clip: Tensor, tokens: Tensor, taught: Tensor) -> Tensor:
        """V-JEPA: L1 between predicted and layer-normed teacher tokens at hidden places."""
        visible, hidden = sample_masks(self.config.masks, clip, self.config.vit)
        context = self.vit.encode(gather_tokens(tokens, visible))  # (B, V, D)
        predicted = self.predictor(context, visible, hidden)  # (B, M, D)
        target = F.layer_norm(taught, (self.config.vit.dim,))  # (B, N, D)
        return (predicted - gather_tokens(target, hidden)).abs().mean()

    def _imagine(self, embedding: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Carries embeddings (B, E) on by actions (B, K, A): embeddings (B, K + 1, E) and rewards (B, K)."""
        carried, rewards = [embedding], []
        for k in range(action.shape[1]):
            both = torch.cat([carried[-1], action[:, k]], -1)
            rewards.append(self.reward_model(both).squeeze(-1))
            carried.append(carried[-1] + self.forward_model(both))
        return torch.stack(carried, 1), torch.stack(rewards, 1)

    def _future_loss(self, carried: Tensor, frames: Tensor) -> Tensor:
        """Error of the components at K + 1 times, from embeddings (B, K + 1, E); frames (B, K + 2, 3, H, W)."""
        pooled = self._pooled(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, K + 2, P)
        now, change = pooled[:, 1:], pooled[:, 1:] - pooled[:, :-1]
        target = torch.cat([now @ self.frame_components, change @ self.change_components], -1)  # (B, K + 1, C)
        return F.mse_loss(self.component_head(carried), target)

    def _contrast_loss(self, embedding: Tensor, taught: Tensor) -> Tensor:
        """InfoNCE between embeddings (B, E) and the teacher's tokens of the same clips (B, N, D)."""
        with torch.no_grad():
            target = self.teacher_head(taught)
            target = F.normalize((target - target.mean(0)) / (target.std(0) + 1e-4), dim=-1)
        query = F.normalize(self.projector(embedding), dim=-1)
        logits = query @ target.T / self.config.contrast_temperature  # (B, B)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))

    def _collapse_losses(self, embedding: Tensor) -> dict[str, Tensor]:
        config = self.config
        losses = {}
        if config.variance_coef:
            std = (embedding.var(0) + 1e-4).sqrt()
            losses["variance_loss"] = config.variance_coef * F.relu(1 - std).mean()
        if config.covariance_coef:
            centred = embedding - embedding.mean(0)
            covariance = centred.T @ centred / (embedding.shape[0] - 1)
            off_diagonal = covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()
            losses["covariance_loss"] = config.covariance_coef * off_diagonal / embedding.shape[1]
        return losses

    @torch.no_grad()
    def update_teacher(self, progress: float) -> None:
        """Moves the teacher towards the encoder; `progress` in [0, 1] is the share of pretraining done."""
        config = self.config
        keep = config.ema_start + (config.ema_end - config.ema_start) * progress
        for taught, learner in ((self.teacher, self.vit), (self.teacher_head, self.head)):
            for teacher, student in zip(taught.parameters(), learner.parameters(), strict=True):
                teacher.lerp_(student, 1 - keep)


def whitening(values: Tensor, count: int) -> Tensor:
    """Axes (P, count) on which rows (N, P) have unit variance: the first principal axes over their spread.

    The mean stays in: what predicts the components learns it as a bias.
    """
    axes = torch.zeros(values.shape[1], count, device=values.device)
    rank = min(count, *values.shape)
    if rank:
        _, scale, found = torch.pca_lowrank(values, q=rank, center=True, niter=4)
        spread = scale / len(values) ** 0.5
        # With a floor: an axis on which next to nothing varies is not blown up to unit variance.
        axes[:, :rank] = found / spread.clamp(min=1e-3 * float(spread[0]) + 1e-6)
    return axes


class EmbeddingHead(nn.Module):
    """All tokens of a clip to one embedding: (B, N, D) -> (B, E)."""

    def __init__(self, num_tokens: int, dim: int, channels: int, embedding_dim: int):
        super().__init__()
        self.squeeze = nn.Linear(dim, channels)
        width = num_tokens * channels
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, embedding_dim),
            nn.SiLU(),
            nn.Linear(embedding_dim, embedding_dim),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp(self.squeeze(tokens).flatten(1))


class Predictor(nn.Module):
    """Predicts hidden tokens from visible ones and the positions of both."""

    positions: Tensor

    def __init__(self, vit: ViTConfig, dim: int, depth: int):
        super().__init__()
        self.embed = nn.Linear(vit.dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.register_buffer("positions", sincos_positions(vit.grid, dim), persistent=False)
        self.blocks = nn.ModuleList(Block(dim, vit.heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, vit.dim)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, context: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Encoded visible tokens (B, V, D) and token indices (B, V), (B, M) to predictions (B, M, D)."""
        x = self.embed(context) + self.positions[visible]
        queries = self.mask_token + self.positions[hidden]
        x = torch.cat([x, queries], 1)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x[:, context.shape[1] :]))


def _mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, out_dim)
    )
