"""The end of a run: evaluation, probes, video, imagined frames, summary.json and report.html."""

import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch

from mindreel.agents.checkpoint import save_checkpoint
from mindreel.agents.trainer import Trainer
from mindreel.assembly import Parts
from mindreel.files import replacing, write_text
from mindreel.probing.run_probes import probe_table
from mindreel.run_config import TrainConfig, choice
from mindreel.runs.evaluation import (
    EVALUATION_SEED,
    WAYS,
    decisions_per_second,
    interval,
    play,
)
from mindreel.runs.progress import stage_bar
from mindreel.runs.provenance import COMMIT, hardware, versions
from mindreel.viz.report import write_report
from mindreel.viz.video import write_comparison_gif, write_mp4
from mindreel.world_model.decoder import Decoder, fit_decoder

DECODER = Path("checkpoints", "decoder.pt")
"""Where a run keeps the decoder that draws its latents."""

_IMAGINED_STEPS = 24
_IMAGINED_STRIPS = 3


def write_artifacts(config: TrainConfig, parts: Parts, trainer: Trainer, folder: Path) -> None:
    """Evaluates, probes, draws, writes the files of a finished run, and prints in three lines what was learned."""
    start = time.monotonic()
    torch.manual_seed(config.seed + EVALUATION_SEED)
    decisions = len(WAYS) * parts.env.episode_steps
    with stage_bar("evaluate", decisions) as bar:
        results = {how: play(config, parts, how, bar.update) for how in WAYS}
    trainer.wall_time["evaluate"] = time.monotonic() - start
    start = time.monotonic()
    probes = probe_table(config, parts, trainer.replay, config.loop.noise)
    trainer.wall_time["probe"] = time.monotonic() - start
    start = time.monotonic()
    shown = results["agent"]
    if "frames" in shown:
        fps = decisions_per_second(parts)
        write_mp4(folder / "videos" / "evaluation.mp4", shown["frames"], fps=fps)
        if config.decoder_steps:
            _imagine(config, parts, trainer, shown, folder)
    trainer.wall_time["draw"] = time.monotonic() - start
    summary = _summary(config, parts, trainer, results, probes)
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    report = write_report(folder)
    print(f"\n{scores_in_words(summary, parts.agent.plans)}\n{knowledge_in_words(probes)}\nPage: {report}")


def scores_in_words(summary: dict, plans: bool) -> str:
    """A sentence with the mean returns of a summary; `plans` says whether the agent plans."""
    found = summary["eval_return_ci95"]
    spread = f" (95% from {found[0]:.1f} to {found[1]:.1f})" if found else ""
    count = summary["eval_episodes"]
    said = f"{summary['task']}, {count} episode{'s' if count > 1 else ''}: return {summary['eval_return_mean']:.1f}"
    said += f" with planning{spread}, {summary['no_planning_return_mean']:.1f} without" if plans else spread
    return f"{said}, {summary['random_return_mean']:.1f} with random actions."


def knowledge_in_words(probes: list[dict]) -> str:
    """A sentence with each encoder's mean R2 over the targets of the linear probe, the run's own first."""
    scores: dict[str, list[float]] = {}
    for row in probes:
        if row["probe"] == "linear":
            scores.setdefault(row["encoder"], []).append(row["r2"])
    if not scores:
        return "The agent reads the simulator's state: there is no encoder to probe."
    means = [f"{np.mean(found):.2f} {name}" for name, found in scores.items()]
    return f"Held-out R2 of linear probes that read the state from the encoder's features: {', '.join(means)}."


def _imagine(config: TrainConfig, parts: Parts, trainer: Trainer, shown: dict, folder: Path) -> None:
    """Writes imagination.npz and a GIF: real frames, and those imagined from the first of them and the actions."""
    model, device = parts.agent.model, parts.env.device
    if not trainer.collector.store_latents:
        return
    batch = trainer.replay.sample(6000, 1, ("latent", "pixels"))
    with torch.no_grad():
        z = model.encode(batch["latent"][:, 0].float())
    channels, height, width = parts.env.observation_spec["pixels"].shape[-3:]
    decoder = Decoder(z.shape[-1], (channels, height, width)).to(device)
    with stage_bar("draw", config.decoder_steps) as bar:

        def advance(done: int, total: int) -> None:
            bar.update()

        fit_decoder(decoder, z, batch["pixels"][:, 0], steps=config.decoder_steps, progress=advance)
    save_checkpoint(folder / DECODER, {"decoder": decoder.state_dict(), "frame_shape": list(decoder.frame_shape)})
    frames, actions, features = shown["frames"], shown["actions"], shown["features"]
    length = min(_IMAGINED_STEPS, len(actions) // _IMAGINED_STRIPS)
    real, imagined = [], []
    with torch.no_grad():
        for k in range(_IMAGINED_STRIPS):
            first = k * length
            latents = [model.encode(features[first][None])]
            for t in range(first, first + length):
                latents.append(model.next(latents[-1], actions[t][None]))
            real.append(frames[first : first + length + 1].cpu().numpy())
            imagined.append(decoder.decode(torch.cat(latents)).cpu().numpy())
    with replacing(folder / "imagination.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, real=np.stack(real), imagined=np.stack(imagined))
    write_comparison_gif(folder / "videos" / "imagination.gif", real[0], imagined[0], fps=decisions_per_second(parts))


def _summary(config: TrainConfig, parts: Parts, trainer: Trainer, results: dict, probes: list[dict]) -> dict:
    summary: dict = {
        "task": config.task,
        "seed": config.seed,
        "encoder": choice(config, "encoder"),
        "agent": choice(config, "agent"),
    }
    for name, how in (("eval", "agent"), ("no_planning", "policy"), ("random", "random")):
        returns = results[how]["returns"]
        summary[f"{name}_return_mean"] = float(np.mean(returns))
        summary[f"{name}_return_ci95"] = interval(returns)
        summary[f"{name}_returns"] = returns
    wall_time = {name: round(seconds, 1) for name, seconds in trainer.wall_time.items()}
    return summary | {
        "eval_episodes": config.eval_episodes,
        "env_frames": trainer.env_frames,
        "updates": trainer.updates,
        "repaired_worlds": parts.env.counters["repaired_worlds"],
        "throughput": trainer.encoder_phases.throughput(),
        "wall_time_s": wall_time | {"total": round(sum(wall_time.values()), 1)},
        "hardware": hardware(config.device),
        "versions": versions(),
        "git_commit": COMMIT,
        "command": shlex.join(["python", *sys.argv]),
        "probes": probes,
    }
