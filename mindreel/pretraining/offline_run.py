"""A run that pretrains an encoder on what is on disk: a run's replay, or files; in one process, or in several."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mindreel import assembly
from mindreel.agents.checkpoint import fitting, load_checkpoint, random_state, save_checkpoint, set_random_state
from mindreel.agents.encoder_phases import FIT_CLIPS, EncoderPhases
from mindreel.agents.interrupts import Autosave
from mindreel.agents.protocols import NoProgress
from mindreel.agents.replay import Replay
from mindreel.encoders import Encoder, make_encoder
from mindreel.encoders.data.clips import ClipConfig, Clips
from mindreel.encoders.pretrainer import Pretrainer
from mindreel.encoders.processes import broadcast
from mindreel.pretraining.clip_sources import SavedReplay, leave_out_terms, open_clips
from mindreel.pretraining.closing import has_more_steps, print_throughput, write_summary
from mindreel.pretraining.forgetting import ForgettingMonitor
from mindreel.pretraining.torchrun import first_decides, gathered, joined_processes, wait_for_all
from mindreel.probing.printing import print_probes
from mindreel.probing.run_probes import probe_table
from mindreel.run_config import TrainConfig, choice
from mindreel.runs.folder import find_run, start_run, tell_how_to_go_on
from mindreel.runs.metrics import MetricsLog
from mindreel.runs.progress import RunProgress

_FIT_BYTES = 2**28  # frames that an encoder is fitted to take at most this


def pretrain_on_data(config: TrainConfig, data: str, clip_config: ClipConfig) -> list[dict]:
    """Pretrains the config's encoder on what `data` names; returns the rows of the probe table, if there is one.

    Raises:
        FileNotFoundError: there is nothing at `data`.
        ValueError: it holds no recordings, or the encoder cannot learn from them.
    """
    with joined_processes(config.device) as (rank, device):
        torch.manual_seed(config.seed + 1000 * rank)
        config, clips, replay = open_clips(config, Path(data), clip_config, device)
        config = leave_out_terms(config, clips, print if rank == 0 else _silent)
        encoder = make_encoder(config.encoder, clips.action_dim, 0).to(device)
        if encoder.needs_sentences and not (clips.sentences and clips.described):
            raise ValueError(
                f"encoder={choice(config, 'encoder')} learns from sentences, and none is known to describe anything in "
                f"data={data}: choose an encoder that reads no text."
            )
        assembly.prepare_encoder(config, encoder, clips.sentences, device)
        named = config if replay is not None else replace(config, task=Path(data).resolve().stem)
        folder = find_run(named, "pretrain")
        monitor = None if replay is None else ForgettingMonitor(encoder, replay, config.seed)
        run = OfflineRun(config, folder, encoder, clips, rank, monitor)
        try:
            run.start()
            run.train()
        except KeyboardInterrupt:
            tell_how_to_go_on("pretrain", folder)
            raise
        finally:
            run.close()
        speed = run.phases.throughput()
        if rank:
            return []
        print_throughput(speed)
        probes = [] if replay is None else _probe(config, encoder, run.pretrainer, replay)
        write_summary(config, folder, run.wall_time, {"data": data, "steps": run.pretrainer.step}, speed, probes)
        print(f"Checkpoint: {run.checkpoint}")
        return probes


class OfflineRun:
    """One run of pretraining on clips: where it stands, and what it leaves on disk.

    Args:
        config: the run's.
        folder: where it writes.
        encoder: the encoder, on the device that everything runs on.
        clips: what it learns from.
        rank: number of this process; only the first one prints and writes.
        monitor: measured whenever metrics are due.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        encoder: Encoder,
        clips: Clips | SavedReplay,
        rank: int = 0,
        monitor: Callable[[], dict[str, float]] | None = None,
    ):
        self.config, self.folder, self.encoder, self.clips, self.rank = config, folder, encoder, clips, rank
        self.pretrainer = Pretrainer(config.pretrain, encoder)
        most = _FIT_BYTES // (3 * clips.clip_frames * clips.side**2)
        self.phases = EncoderPhases(
            encoder, clips, self.pretrainer, bool(config.encoder_from), monitor, max(512, min(FIT_CLIPS, most))
        )
        self.checkpoint = folder / "checkpoints" / "last.pt"
        self.wall_time = {"pretrain": 0.0}
        self.ended = False
        self.log: MetricsLog | None = None
        self._began: float | None = None  # when training did, in this process and those before it
        self._named: set[str] = set()
        self._autosave = Autosave(self._save, config.loop.checkpoint_seconds, first_decides)

    def start(self) -> None:
        """Fits the encoder to clips, or loads the checkpoint of a run to resume."""
        wait_for_all()  # nobody finds the folder that the first is about to make
        if self.rank == 0:
            start_run(self.folder, self.config, leave_out=("out",))
            print(f"{self._clips_in_words()} on {self.pretrainer.device}, into {self.folder}/")
            self.log = MetricsLog(self.folder)
        if self.config.resume:
            self._load()
            return
        if self.rank == 0:
            self.phases.fit()
        broadcast(self.encoder)
        self._autosave.save()

    def train(self) -> None:
        """Trains to the end, saving now and then.

        Raises:
            KeyboardInterrupt: a signal asked to stop; what was done until then is saved.
        """
        config = self.config.pretrain
        if self.ended:
            total, done = self.phases.planned(config.steps), self.pretrainer.step
            say = print if self.rank == 0 else _silent
            if not has_more_steps(self.config, self.folder, done, total, ("out",), say):
                return
            self.pretrainer.extend()
            self.ended = False
        self._began = time.monotonic() - self.wall_time["pretrain"]
        progress = NoProgress() if self.rank else RunProgress()
        with self._autosave:
            self.phases.train("pretrain", config.steps, config.lr, self._log, self._step_done, progress)
        self._name_skipped()
        if self.rank == 0:
            self.phases.fit_readout()
        broadcast(self.encoder)
        self.ended = True
        self._autosave.save()

    def close(self) -> None:
        """Ends the log of metrics."""
        if self.log:
            self.log.close()

    def _log(self, metrics: dict[str, float]) -> None:
        if self.log:
            self.log({"stage": "pretrain", **metrics})

    def _step_done(self) -> None:
        self._name_skipped()
        self._autosave.step()

    def _clips_in_words(self) -> str:
        clips = self.clips
        if isinstance(clips, SavedReplay):
            return f"Replay of {len(clips.replay):,} frames"
        return f"{len(clips):,} clips of {clips.recordings:,} recordings"

    def _name_skipped(self) -> None:
        """Names what does not decode, each once."""
        new = {name: why for name, why in self.clips.skipped.items() if name not in self._named}
        if new and self.rank == 0:
            named = "; ".join(f"{name} ({why})" for name, why in list(new.items())[:5])
            print(f"\nSkipped, {len(self.clips.skipped)} so far: {named}{' and more' if len(new) > 5 else ''}.")
        self._named |= new.keys()

    # ---- checkpoints ----

    def _save(self) -> None:
        every = gathered(random_state(self.pretrainer.device) | {"clips": self.clips.state_dict()})
        if self.log:
            if self._began is not None:
                self.wall_time["pretrain"] = time.monotonic() - self._began
            state = {
                "encoder": self.encoder.state_dict(),
                "pretrainer": self.pretrainer.state_dict(),
                "processes": every,
                "counters": {"finished": self.ended, "log_lines": self.log.lines()},
                "wall_time": self.wall_time,
            }
            save_checkpoint(self.checkpoint, state)

    def _load(self) -> None:
        state = load_checkpoint(self.checkpoint, self.pretrainer.device)
        with fitting(self.checkpoint):
            self.encoder.load_state_dict(state["encoder"])
            self.pretrainer.load_state_dict(state["pretrainer"])
            self.ended = state["counters"]["finished"]
            self.wall_time = state["wall_time"]
            every = state["processes"]
        if self.log:
            self.log.truncate(state["counters"]["log_lines"])
            print(f"Resumed at step {self.pretrainer.step}.")
        if self.rank < len(every):  # a process that there was not before draws clips of its own
            own = every[self.rank]
            self.clips.load_state_dict(own["clips"])
            set_random_state(own, self.pretrainer.device)


def _silent(text: str) -> None:
    pass


def _probe(config: TrainConfig, encoder: Encoder, pretrainer: Pretrainer, replay: Replay) -> list[dict]:
    parts = replace(assembly.build(config), encoder=encoder.eval(), pretrainer=pretrainer)
    rows = probe_table(config, parts, replay, None)
    print_probes(rows)
    return rows
