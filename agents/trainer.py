"""The training loop: collect, pretrain the encoder, then learn and act in turn, and refresh the encoder."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Interval
from torch import Tensor

from mindreel.agents.checkpoint import fitting, load_checkpoint, random_state, save_checkpoint, set_random_state
from mindreel.agents.collector import Collector
from mindreel.agents.encoder_phases import EncoderPhases
from mindreel.agents.interrupts import Autosave
from mindreel.agents.learner import CollapseWarning, Learner
from mindreel.agents.protocols import Log, NoProgress, ObjectivePretrainer, Policy, Progress
from mindreel.agents.replay import Replay
from mindreel.agents.replay_clips import ReplayClips, encode_batch


@dataclass(frozen=True)
class LoopConfig:
    """How long each stage of a run lasts."""

    seed_decisions: Annotated[int, Ge(1)] = 500
    """Decisions of correlated noise in each world before anything is learned."""
    updates: Annotated[int, Ge(0)] = 4000
    """Updates of the agent."""
    updates_per_decision: Annotated[float, Gt(0)] = 1.0
    """Updates after each decision that all worlds take together; below 1, several decisions for one update."""
    refreshes: Annotated[int, Ge(0)] = 4
    """Times that the encoder is trained further on newer rollouts (encoder.training_mode=refresh)."""
    refresh_until: Annotated[float, Interval(gt=0, le=1)] = 0.5
    """Fraction of the updates by which the last refresh is done."""
    noise: Annotated[float, Ge(0)] = 0.4
    """Standard deviation of the correlated exploration noise when training starts."""
    noise_final: Annotated[float, Ge(0)] = 0.2
    """Standard deviation of that noise when training ends."""
    replay_capacity: Annotated[int, Ge(1)] = 200_000
    """Observations kept in replay, over all worlds."""
    log_every: Annotated[int, Ge(1)] = 100
    """Updates between lines of metrics."""
    eval_every: Annotated[int, Ge(0)] = 0
    """Updates between evaluations during training; 0 for none but the last."""
    checkpoint_seconds: Annotated[float, Ge(0)] = 120.0
    """Seconds between checkpoints."""


class Trainer:
    """Runs the stages of a run, and can be stopped and resumed between any two updates.

    Args:
        config: lengths of the stages.
        collector: worlds, encoder and replay.
        agent: learns and acts.
        pretrainer: trains the encoder by its own objective; None for an encoder that has none.
        path: the checkpoint file.
        log: takes rows of metrics.
        progress: shows how far the run is.
        evaluate: measures the agent every `config.eval_every` updates.
        log_lines: how many rows have been logged; kept in checkpoints, so that a resumed run can drop later ones.
        encoder_fitted: whether the encoder's normalisation is kept, since it comes fitted to other rollouts.
        monitor: measured whenever metrics of the encoder's training are due.
    """

    def __init__(
        self,
        config: LoopConfig,
        collector: Collector,
        agent: Learner,
        pretrainer: ObjectivePretrainer | None,
        path: Path,
        log: Log,
        progress: Progress | None = None,
        evaluate: Callable[[], dict] | None = None,
        log_lines: Callable[[], int] = lambda: 0,
        encoder_fitted: bool = False,
        monitor: Callable[[], dict[str, float]] | None = None,
    ):
        self.config, self.collector, self.agent, self.pretrainer, self.path = config, collector, agent, pretrainer, path
        self.replay: Replay = collector.replay
        self.encoder = collector.encoder
        steps = pretrainer.config.future_steps if pretrainer else 1
        self.clips = ReplayClips(self.replay, self.encoder.clip_frames, steps)
        self.encoder_phases = EncoderPhases(self.encoder, self.clips, pretrainer, encoder_fitted, monitor)
        self.log, self.progress, self.evaluate, self.log_lines = log, progress or NoProgress(), evaluate, log_lines
        self.decisions = self.updates = self.refreshes_done = 0
        self.pretrained = False
        self.owed = 0.0  # updates due and not yet done, a fraction
        self.wall_time: dict[str, float] = {}
        self.recent_returns: list[float] = []
        self.encoder_id = self.encoder.identity()
        self._running: tuple[str, float] | None = None
        rate = "trained_encoder_lr_scale" if self.encoder.trained_by_agent else "encoder_lr_scale"
        self._collapse = CollapseWarning(f"agent.{rate}")
        self.autosave = Autosave(lambda: save_checkpoint(self.path, self.state_dict()), config.checkpoint_seconds)

    # ---- stages ----

    def run(self) -> None:
        """Runs all stages, from wherever the run stands.

        Raises:
            KeyboardInterrupt: a signal asked to stop; what was done until then is saved.
        """
        self._prepare(then_train=True)
        self._plan(then_train=True)
        with self.autosave, self.timed("train"):
            self._train()
        self.autosave.save()

    def prepare(self) -> None:
        """Runs the stages before the agent learns: rollouts of noise, and an encoder pretrained on them.

        Raises:
            KeyboardInterrupt: as of `run`.
        """
        self._prepare(then_train=False)

    def _prepare(self, then_train: bool) -> None:
        self._plan(then_train)
        with self.autosave, self.timed("collect"):
            self._collect()
        self._plan(then_train)
        with self.autosave, self.timed("pretrain"):
            self._pretrain()

    def set_updates(self, updates: int) -> None:
        """Changes how many updates of the agent the run has in all; its schedules stretch to them."""
        self.config = replace(self.config, updates=updates)

    def extend_pretraining(self) -> None:
        """Reopens the pretraining of a run whose agent has not learned yet, for more steps."""
        assert self.pretrainer is not None
        self.pretrainer.extend()
        self.pretrained = False

    def _collect(self) -> None:
        total = self.config.seed_decisions
        for _ in self.progress(range(self.decisions, total), "collect", self.decisions, total):
            self._step(None, 1.0)
            self.autosave.step()

    def _pretrain(self) -> None:
        if self.pretrained:
            return
        if self.encoder.clip_frames and not (self.pretrainer and self.pretrainer.done):
            self.encoder_phases.fit()
        if self.pretrainer:
            self._train_encoder("pretrain", self.pretrainer.config.steps, self.pretrainer.config.lr)
        self.refit_and_reencode()
        self.pretrained = True
        self.autosave.save()

    def _train(self) -> None:
        config = self.config
        steps = self.progress(range(self.updates, config.updates), "train", self.updates, config.updates)
        for update in steps:
            while self._refresh_due():
                self._refresh()
            self.owed += 1 / config.updates_per_decision
            while self.owed >= 1:
                fraction = update / config.updates
                self._step(self._explore, config.noise + fraction * (config.noise_final - config.noise))
                self.owed -= 1
            metrics = self.learn_once()
            self.updates = update + 1
            if self.updates % config.log_every == 0 or self.updates == config.updates:
                self._log_update(metrics)
            if config.eval_every and self.evaluate and self.updates % config.eval_every == 0:
                self._log_evaluation()
            self.autosave.step()

    def _refresh_due(self) -> bool:
        config = self.config
        if self.pretrainer is None or self.encoder.training_mode != "refresh" or not config.refreshes:
            return False
        if self.pretrainer.done:  # a refresh that was interrupted
            return True
        due = int(self.updates / max(1, config.updates) * config.refreshes / config.refresh_until)
        return self.refreshes_done < min(due, config.refreshes)

    def _refresh(self) -> None:
        assert self.pretrainer is not None
        config = self.pretrainer.config
        if self.pretrainer.done == 0:
            self.encoder_phases.fit_targets()
        self._train_encoder("refresh", config.refresh_steps, config.refresh_lr)
        self.refit_and_reencode()
        self.refreshes_done += 1
        self.autosave.save()

    def _train_encoder(self, stage: str, steps: int, lr: float) -> None:
        """Trains the encoder on what replay holds."""
        self.encoder_phases.train(
            stage, steps, lr, lambda metrics: self._log(stage, metrics), self.autosave.step, self.progress
        )

    def refit_and_reencode(self) -> None:
        """Ends a phase of the encoder's training: fits its readout, and re-encodes replay and what the worlds show."""
        if self.pretrainer is not None:
            self.encoder_phases.fit_readout()
        self.encoder_id = self.encoder.identity()
        self.collector.reencode(self.encoder_id)

    def _plan(self, then_train: bool) -> None:
        """Tells the progress which steps are to come, and what such steps took so far."""
        config, pretrainer = self.config, self.pretrainer
        collected = min(self.decisions, config.seed_decisions)
        to_come, done = {"collect": config.seed_decisions - collected}, {"collect": collected}
        if pretrainer:
            done["pretrain"] = pretrainer.step
            to_come["pretrain"] = 0 if self.pretrained else max(0, pretrainer.config.steps - pretrainer.done)
        if then_train:
            to_come["train"], done["train"] = config.updates - self.updates, self.updates
            if pretrainer and self.encoder.training_mode == "refresh":
                refreshes = config.refreshes - self.refreshes_done
                to_come["refresh"] = refreshes * pretrainer.config.refresh_steps
        seconds = {
            stage: self.wall_time[stage] / steps for stage, steps in done.items() if steps and stage in self.wall_time
        }
        if "pretrain" in seconds:
            seconds["refresh"] = seconds["pretrain"]
        self.progress.plan(to_come, seconds)

    # ---- steps ----

    def _step(self, policy: Policy | None, noise: float) -> None:
        returns = self.collector.step(policy, noise, self.encoder_id)
        self.decisions += 1
        if returns:
            self.recent_returns += returns
            self.progress.show(episode_return=sum(returns) / len(returns))

    def _explore(self, features: Tensor, first: Tensor) -> Tensor:
        return self.agent.act(features, first, explore=True)

    def learn_once(self) -> dict[str, Tensor]:
        """One update of the agent on sequences drawn from replay; returns losses and statistics."""
        config = self.agent.config
        length = config.horizon + config.n_step - 1
        if self.collector.store_latents:
            batch = self.replay.sample(config.batch_size, length, ("latent",))
            features, extra = batch["latent"].float(), None
        else:
            features, extra, batch = encode_batch(self.encoder, self.clips, config.batch_size, length)
        return self.agent.update(features, batch["action"], batch["reward"], batch["terminated"], extra)

    # ---- records ----

    @property
    def env_frames(self) -> int:
        """Control steps that all worlds have taken."""
        return self.collector.env.counters["env_frames"]

    def _log(self, stage: str, metrics: dict) -> None:
        self.log({"stage": stage, "env_frames": self.env_frames, "updates": self.updates, **metrics})

    def _log_update(self, metrics: dict[str, Tensor]) -> None:
        row = {name: float(value) for name, value in metrics.items()}
        if self.recent_returns:
            row["episode_return"] = sum(self.recent_returns) / len(self.recent_returns)
            self.recent_returns = []
        self._collapse.check(row["latent_std"], self.updates)
        row["repaired_worlds"] = self.collector.env.counters["repaired_worlds"]
        self._log("train", row)
        self.progress.show(loss=self.agent.model_loss(row))

    def _log_evaluation(self) -> None:
        assert self.evaluate is not None
        self._log("eval", self.evaluate())

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the seconds spent in between to the stage's wall time."""
        start = time.monotonic()
        self._running = (stage, start)
        try:
            yield
        finally:
            self.add_time(stage, time.monotonic() - start)
            self._running = None

    def add_time(self, stage: str, seconds: float) -> None:
        """Adds to the wall time of a stage."""
        self.wall_time[stage] = self.wall_time.get(stage, 0.0) + seconds

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """Everything that the rest of the run depends on."""
        wall_time = dict(self.wall_time)
        if self._running is not None:
            stage, start = self._running
            wall_time[stage] = wall_time.get(stage, 0.0) + time.monotonic() - start
        return {
            "encoder": self.encoder.state_dict(),
            "agent": self.agent.state_dict(),
            "pretrainer": self.pretrainer.state_dict() if self.pretrainer else {},
            "collector": self.collector.state_dict(),
            "replay": self.replay.state_dict(),
            "random": random_state(self.collector.env.device),
            "counters": {
                "decisions": self.decisions,
                "updates": self.updates,
                "refreshes_done": self.refreshes_done,
                "pretrained": self.pretrained,
                "owed": self.owed,
                "encoder_id": self.encoder_id,
                "recent_returns": self.recent_returns,
                "log_lines": self.log_lines(),
            },
            "wall_time": wall_time,
        }

    def load(self) -> dict:
        """Continues from the checkpoint; returns its counters.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is damaged, or of a run with another config.
        """
        state = load_checkpoint(self.path, self.collector.env.device)
        with fitting(self.path):
            self._load_parts(state)
        counters = state["counters"]
        for name in ("decisions", "updates", "refreshes_done", "pretrained", "owed", "encoder_id", "recent_returns"):
            setattr(self, name, counters[name])
        encoded = self.pretrained and not (self.pretrainer and self.pretrainer.done)
        if encoded and not self.encoder.trained_by_agent and self.encoder.identity() != self.encoder_id:
            raise ValueError(f"{self.path}: its latents were made by another encoder than the one it holds.")
        self.wall_time = state["wall_time"]
        set_random_state(state["random"], self.collector.env.device)
        return counters

    def _load_parts(self, state: dict) -> None:
        self.encoder.load_state_dict(state["encoder"])
        self.agent.load_state_dict(state["agent"])
        if self.pretrainer:
            self.pretrainer.load_state_dict(state["pretrainer"])
        self.replay.load_state_dict(state["replay"])
        self.collector.load_state_dict(state["collector"])
