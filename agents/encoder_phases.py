"""The phases of an encoder's training on any source of clips: fitting, gradient steps, and a readout fitted last."""

from collections.abc import Callable

from torch import Tensor

from mindreel.agents.protocols import ClipSource, FeatureEncoder, NoProgress, ObjectivePretrainer, Progress

FIT_CLIPS = 4096
"""Random clips that an encoder is fitted to."""


class EncoderPhases:
    """An encoder, the clips that it learns from, and what trains it.

    Args:
        encoder: the encoder.
        clips: where its clips come from.
        pretrainer: trains it by its own objective; None if it has none.
        fitted: whether its normalisation is kept, since it was fitted to other clips.
        monitor: measured whenever metrics of the training are due.
        fit_clips: random clips that it is fitted to.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        clips: ClipSource,
        pretrainer: ObjectivePretrainer | None,
        fitted: bool = False,
        monitor: Callable[[], dict[str, float]] | None = None,
        fit_clips: int = FIT_CLIPS,
    ):
        self.encoder, self.clips, self.pretrainer = encoder, clips, pretrainer
        self.fitted, self.monitor, self.fit_clips = fitted, monitor, fit_clips

    def fit(self) -> None:
        """Fits what is fitted to clips before any training.

        Raises:
            ValueError: the encoder learns from sentences, and none describes any of the clips.
        """
        if self.pretrainer is not None and self.encoder.needs_sentences and not self.clips.described:
            raise ValueError(
                "The encoder learns from sentences, and none describes any frame: choose rollouts of a task that has "
                "sentences, with the observation 'behaviour', or an encoder that reads no text."
            )
        fit = self.encoder.fit_targets if self.fitted else self.encoder.fit
        fit(*self.clips.pairs(self.fit_clips))
        self.fit_readout()

    def fit_targets(self) -> None:
        """Fits the targets of the objective to the present clips."""
        self.encoder.fit_targets(*self.clips.pairs(self.fit_clips))

    def fit_readout(self) -> None:
        """Fits what is read out of the encoder's tokens, as they are."""
        if self.encoder.fits_readout:
            self.encoder.fit_readout(self.clips.clips(self.fit_clips))

    def planned(self, steps: int) -> int:
        """The gradient steps of a phase of nominally `steps`."""
        assert self.pretrainer is not None
        return self.pretrainer.planned(self.sample, steps)

    def train(
        self,
        stage: str,
        steps: int,
        lr: float,
        log: Callable[[dict[str, float]], None],
        step_done: Callable[[], None],
        progress: Progress | None = None,
    ) -> None:
        """Trains the encoder for a phase, from wherever the phase stands.

        Args:
            stage: name of the phase, for its progress.
            steps: nominal gradient steps of the phase, as `planned` takes them.
            lr: peak learning rate.
            log: takes the metrics.
            step_done: called after each step but the last, when the phase can be saved; it may raise to stop.
            progress: shows how far the phase is.
        """
        pretrainer = self.pretrainer
        assert pretrainer is not None
        progress = progress or NoProgress()
        total = self.planned(steps)
        training = pretrainer.train(self.sample, total, lr, self.monitor)
        for _ in progress(range(pretrainer.done, total), stage, pretrainer.done, total):
            metrics = next(training)
            if metrics is not None:
                log(metrics)
                progress.show(loss=metrics["loss"])
            if pretrainer.done < total:
                step_done()
        next(training, None)  # ends the phase

    def sample(self) -> tuple[Tensor, ...]:
        """A batch for the encoder's objective, as in `ClipSource.sample`."""
        assert self.pretrainer is not None
        return self.clips.sample(self.pretrainer.config.batch_size)

    def throughput(self) -> dict[str, float]:
        """Operations and speed of the training so far; empty without any."""
        return {} if self.pretrainer is None else self.pretrainer.throughput(self.sample)
