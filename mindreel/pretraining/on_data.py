"""Pretraining on what is on disk: a run's replay, or files; in one process, or in several by torchrun."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from mindreel import assembly, cli
from mindreel.agents.checkpoint import fitting, load_checkpoint, save_checkpoint
from mindreel.agents.interrupts import Interrupts
from mindreel.agents.replay import Replay
from mindreel.devices import check_device
from mindreel.encoders import make_encoder
from mindreel.encoders.data.clips import ClipConfig, Clips
from mindreel.encoders.pretrainer import Pretrainer, broadcast
from mindreel.pretraining.forgetting import Memory
from mindreel.pretraining.sources import ReplayClips, leave_out, open_clips
from mindreel.probing.run_tables import print_probes, probe_table
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.runs.folder import find_run, start_run, tell_how_to_go_on
from mindreel.runs.metrics import MetricsLog, progress_bar
from mindreel.runs.provenance import git_commit, hardware, versions

_FIT_ROWS = 4096
"""Clips that an encoder is fitted to before it is trained; fewer if they are large."""
_FIT_BYTES = 2**28


def pretrain_on_data(config: TrainConfig, data: str, clip_config: ClipConfig) -> list[dict]:
    """Pretrains the config's encoder on what `data` names; returns the rows of the probe table, if there is one.

    Raises:
        FileNotFoundError: there is nothing at `data`.
        ValueError: it holds no recordings, or the encoder cannot learn from them.
    """
    with _processes(config.device) as (rank, device):
        name = choice(config, "encoder")
        torch.manual_seed(config.seed + 1000 * rank)
        config, clips, replay = open_clips(config, Path(data), clip_config, device)
        config = leave_out(config, clips, print if rank == 0 else _silent)
        encoder = make_encoder(config.encoder, clips.action_dim, 0).to(device)
        if encoder.reads_text and not (clips.sentences and clips.described):
            raise ValueError(
                f"encoder={name} reads text, and no sentence is known to hold in anything of data={data}: choose an "
                "encoder that reads none."
            )
        assembly.prepare_encoder(config, encoder, clips.sentences, device)
        named = config if replay is not None else replace(config, task=Path(data).resolve().stem)
        folder = find_run(named, "pretrain")
        job = _Job(config, folder, encoder, clips, rank)
        if replay is not None:
            job.pretrainer.watch = Memory(encoder, replay, config.seed)
        try:
            job.start()
            job.train()
        except KeyboardInterrupt:
            tell_how_to_go_on("pretrain", folder)
            raise
        finally:
            job.close()
        speed = job.pretrainer.throughput(job.sample)
        if rank:
            return []
        print_throughput(speed)
        probes = [] if replay is None else _probe(config, encoder, job.pretrainer, replay)
        write_summary(config, folder, job.wall_time, {"data": data, "steps": job.pretrainer.step}, speed, probes)
        print(f"Checkpoint: {job.checkpoint}")
        return probes


class _Job:
    """One run of pretraining on clips: where it stands, and what it leaves on disk."""

    def __init__(self, config: TrainConfig, folder: Path, encoder, clips: Clips | ReplayClips, rank: int):
        self.config, self.folder, self.encoder, self.clips, self.rank = config, folder, encoder, clips, rank
        self.pretrainer = Pretrainer(config.pretrain, encoder)
        self.checkpoint = folder / "checkpoints" / "last.pt"
        self.wall_time = {"pretrain": 0.0}
        self.finished = False
        self.log: MetricsLog | None = None
        self._told: set[str] = set()
        self._saved = time.monotonic()

    def sample(self) -> tuple[Tensor, ...]:
        return self.clips.sample(self.config.pretrain.batch_size)

    def start(self) -> None:
        """From the beginning, with what is fitted to clips, or from the checkpoint."""
        if distributed.is_initialized():
            distributed.barrier()  # nobody finds the folder that the first is about to make
        if self.rank == 0:
            start_run(self.folder, self.config, leave_out=("out",))
            print(f"{self.clips_in_words()} on {self.pretrainer.device}, into {self.folder}/")
            self.log = MetricsLog(self.folder)
        if self.config.resume:
            self._load()
            return
        if self.rank == 0:
            fit = self.encoder.fit_targets if self.config.encoder_from else self.encoder.fit
            fit(*self.clips.pairs(self._fit_rows()))
        self._fit_readout()
        self._save()

    def train(self) -> None:
        """To the end, saving now and then."""
        config, pretrainer = self.config.pretrain, self.pretrainer
        total = pretrainer.planned(self.sample, config.steps)
        if self.finished:
            say = print if self.rank == 0 else _silent
            if not goes_on(self.config, self.folder, pretrainer, total, ("out",), say):
                return
            self.finished = False
        steps = range(pretrainer.done, total)
        if self.rank == 0:
            steps = progress_bar(steps, "pretrain", pretrainer.done, total)
        training = pretrainer.train(self.sample, total, config.lr)
        began = time.monotonic() - self.wall_time["pretrain"]
        with Interrupts() as interrupts:
            for _ in steps:
                metrics = next(training)
                self.wall_time["pretrain"] = time.monotonic() - began
                if metrics is not None and self.log:
                    self.log({"stage": "pretrain", **metrics})
                self._name_skipped()
                if pretrainer.done < total:
                    self._save_if_due(interrupts)
        next(training, None)  # ends the phase
        self._fit_readout()
        self.finished = True
        self._save()

    def _fit_rows(self) -> int:
        return max(512, min(_FIT_ROWS, _FIT_BYTES // (3 * self.clips.clip_frames * self.clips.side**2)))

    def _fit_readout(self) -> None:
        """What the first process finds holds for all."""
        if self.rank == 0:
            self.encoder.fit_readout(self.clips.clips(self._fit_rows()))
        broadcast(self.encoder)

    def close(self) -> None:
        """Ends the log of metrics."""
        if self.log:
            self.log.close()

    def clips_in_words(self) -> str:
        """What is learned from, and what had to be left out."""
        clips = self.clips
        if isinstance(clips, ReplayClips):
            return f"Replay of {len(clips.replay):,} frames"
        return f"{len(clips):,} clips of {clips.recordings:,} recordings"

    def _name_skipped(self) -> None:
        """Names what does not decode, each once."""
        new = {name: why for name, why in self.clips.skipped.items() if name not in self._told}
        if new and self.rank == 0:
            named = "; ".join(f"{name} ({why})" for name, why in list(new.items())[:5])
            print(f"\nSkipped, {len(self.clips.skipped)} so far: {named}{' and more' if len(new) > 5 else ''}.")
        self._told |= new.keys()

    # ---- checkpoints ----

    def _save_if_due(self, interrupts: Interrupts) -> None:
        """Saves when it is time, by the first process's clock, or when that one was asked to stop: all take part."""
        late = time.monotonic() - self._saved >= self.config.loop.checkpoint_seconds
        due = torch.tensor([late, interrupts.asked])
        if distributed.is_initialized():
            distributed.broadcast(due, 0)
        if due.any():
            self._save()
        if due[1]:
            raise KeyboardInterrupt

    def _save(self) -> None:
        device = self.pretrainer.device
        own = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "clips": self.clips.state_dict(),
        }
        every = [own]
        if distributed.is_initialized():
            every = [{}] * distributed.get_world_size()
            distributed.all_gather_object(every, own)
        if self.log:
            counters = {"finished": self.finished, "log_lines": self.log.lines()}
            state = {
                "encoder": self.encoder.state_dict(),
                "pretrainer": self.pretrainer.state_dict(),
                "processes": every,
                "counters": counters,
                "wall_time": self.wall_time,
            }
            save_checkpoint(self.checkpoint, state)
        self._saved = time.monotonic()

    def _load(self) -> None:
        state = load_checkpoint(self.checkpoint, self.pretrainer.device)
        with fitting(self.checkpoint):
            self.encoder.load_state_dict(state["encoder"])
            self.pretrainer.load_state_dict(state["pretrainer"])
            self.finished = state["counters"]["finished"]
            self.wall_time = state["wall_time"]
            every = state["processes"]
        if self.log:
            self.log.truncate(state["counters"]["log_lines"])
            print(f"Resumed at step {self.pretrainer.step}.")
        if self.rank < len(every):  # a process that there was not before goes on with its own
            own = every[self.rank]
            self.clips.load_state_dict(own["clips"])
            torch.set_rng_state(own["torch"].cpu())
            if own["cuda"] is not None:
                torch.cuda.set_rng_state(own["cuda"].cpu(), self.pretrainer.device)


def goes_on(
    config: TrainConfig,
    folder: Path,
    pretrainer: Pretrainer,
    total: int,
    leave_out: tuple[str, ...],
    say: Callable[[str], None] = print,
) -> bool:
    """Whether a finished run has steps to go by now; they follow the learning rate of `total` steps.

    Args:
        config: the run's, with the new number of steps; saved over the old one if it goes on.
        folder: the run's.
        pretrainer: as the checkpoint has it.
        total: steps wanted in all.
        leave_out: fields that belong to the script and not to the run.
        say: prints; only the first of several processes saves.
    """
    done = pretrainer.step
    if total <= done:
        say(
            f"This pretraining is finished: its {done} steps are done. To go on add pretrain.tflop=0 pretrain.steps=N, "
            f"N above {done}; to start another run from it, encoder_from={folder}."
        )
        return False
    pretrainer.done = done
    if os.environ.get("RANK", "0") == "0":  # what is cut off from here on has to go on to the new end
        cli.save(config, GROUPS, folder / "config.yaml", leave_out=("resume", "overwrite", *leave_out))
    say(f"Its {done} steps were all: on to step {total}.")
    return True


# ---- processes ----


@contextmanager
def _processes(device_name: str) -> Iterator[tuple[int, torch.device]]:
    """Number and device of this process, joined with the others if torchrun started several."""
    device = check_device(device_name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield distributed.get_rank(), device
    finally:
        distributed.destroy_process_group()


def _silent(text: str) -> None:
    pass


# ---- the end of a run ----


def _probe(config: TrainConfig, encoder, pretrainer: Pretrainer, replay: Replay) -> list[dict]:
    parts = replace(assembly.build(config), encoder=encoder.eval(), pretrainer=pretrainer)
    rows = probe_table(config, parts, replay, None)
    print_probes(rows)
    return rows


def print_throughput(speed: dict[str, float]) -> None:
    """Says how fast training went; nothing if it was too short to tell."""
    if "clips_per_s" in speed:
        print(
            f"Pretraining: {speed['clips_per_s']:,.0f} clips/s, {speed['gflop_per_clip']:.2f} GFLOP each, "
            f"{speed['peak_share']:.0%} of the {speed['peak_gflop_per_s']:,.0f} GFLOP/s of a matrix product here."
        )


def write_summary(
    config: TrainConfig,
    folder: Path,
    wall_time: dict[str, float],
    counts: dict[str, Any],
    speed: dict[str, float],
    probes: list[dict],
) -> None:
    """Writes summary.json: what ran, for how long, how fast, on what, and what the encoder knows."""
    rounded = {name: round(seconds, 1) for name, seconds in wall_time.items()}
    summary = {
        "task": config.task,
        "seed": config.seed,
        "encoder": choice(config, "encoder"),
        **counts,
        "wall_time_s": rounded | {"total": round(sum(rounded.values()), 1)},
        "throughput": speed,
        "hardware": hardware(config.device),
        "versions": versions(),
        "git_commit": git_commit(),
        "probes": probes,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
