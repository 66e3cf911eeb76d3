"""InternVideo on an agent's rollouts: hidden pixels, sentences and labels, all at once.

Wang et al. 2022. The paper trains a masked and a contrastive network, coordinates them by cross-attention and tunes
both on labels. Here one small network learns all three objectives together: it predicts the pixels of hidden tubes as
VideoMAE does, aligns a clip's embedding with the sentence that describes the clip, and classifies by that embedding
which sentence it is. The embedding reads every token at its place: losses on the mean of the tokens, or on one
attentive query, changed all tokens alike and lowered the rank of their principal components.

Several clips of a batch have the same sentence, and all of them count as its matches (InfoNCE with several positives).
With a single positive each, clips of one behaviour would be pushed apart.
"""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from mindreel.encoders.objectives.sentences import TextConfig, TextHeads
from mindreel.encoders.objectives.video_encoder import Batch
from mindreel.encoders.objectives.videomae import VideoMAE, VideoMAEConfig


@dataclass(frozen=True)
class InternVideoConfig(VideoMAEConfig):
    """InternVideo: VideoMAE, contrast with sentences and classification together."""

    text: TextConfig = field(default_factory=TextConfig)
    """How clips are compared with sentences."""
    pixel_coef: Annotated[float, Ge(0)] = 1.0
    """Weight of predicting hidden pixels."""
    text_coef: Annotated[float, Ge(0)] = 0.5
    """Weight of matching clips and sentences."""
    label_coef: Annotated[float, Ge(0)] = 0.5
    """Weight of classifying the behaviour."""


class InternVideo(VideoMAE):
    """The video transformer with InternVideo's objective."""

    needs_sentences = True
    needs_embedding = True
    config: InternVideoConfig

    def __init__(self, config: InternVideoConfig, action_dim: int, state_dim: int = 0):
        super().__init__(config, action_dim, state_dim)
        self.text = TextHeads(config.text, config.embedding_dim)
        self.needs_sentences = bool(config.text_coef or config.label_coef)

    def set_sentences(self, sentences: tuple[str, ...]) -> None:
        """Embeds the sentences that `behaviour` indexes; called once, before `losses`."""
        self.text.set_sentences(sentences)

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """Squared error at hidden tokens, contrast with sentences, cross-entropy of behaviours.

        The last two are 0 if no clip of the batch has a sentence.

        Raises:
            ValueError: `set_sentences` was not called, or a behaviour of the batch is not among its sentences.
        """
        config, losses = self.config, {}
        if config.pixel_coef:
            losses["pixel_loss"] = config.pixel_coef * super().objective(batch)["videomae_loss"]
        if self.needs_sentences:
            self.text.check(batch.behaviour)
        if config.text_coef:
            losses["text_loss"] = config.text_coef * self.text.contrast_loss(batch.embedding, batch.behaviour)
        if config.label_coef:
            losses["label_loss"] = config.label_coef * self.text.label_loss(batch.embedding, batch.behaviour)
        return losses
