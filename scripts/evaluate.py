"""Play episodes with a trained agent, with and without planning, and with random actions for comparison.

    python scripts/evaluate.py run=runs/demo
    python scripts/evaluate.py run=runs/demo agent=actor_critic eval_episodes=30 out=rows.json
    python scripts/evaluate.py run=runs/demo video=episode.mp4

An agent of either kind acts through any run's latent model: agent=mpc plans with it, agent=actor_critic
follows its policy. Fields not given are those of the run.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindreel import cli
from mindreel.assembly import Parts, checkpoint_of, load_parts
from mindreel.run_config import GROUPS, RunConfig, choice, current_names
from mindreel.runs.evaluation import decisions_per_second, interval, play, print_scores, score_labels, seed_evaluation
from mindreel.runs.progress import progress_bar
from mindreel.tables import check_out, write_rows
from mindreel.viz.video import write_mp4


@dataclass(frozen=True)
class EvaluateConfig(RunConfig):
    """An evaluation of a run."""

    out: str = ""
    """File for the rows, JSON."""
    video: str = ""
    """File for a video of one episode, MP4."""


def run(config: EvaluateConfig) -> None:
    """Plays and prints the returns."""
    checkpoint = checkpoint_of(config.run)
    check_out(config.out)
    check_out(config.video, "video")
    if config.eval_episodes < 1:
        raise ValueError(f"eval_episodes={config.eval_episodes}: play at least one.")
    if config.video and choice(config, "encoder") == "state":
        raise ValueError("video: this run reads the simulator's state and draws no pictures.")
    parts, _ = load_parts(config, checkpoint)
    scores, rows = {}, []
    for how, label in score_labels(parts.agent).items():
        seed_evaluation(config)
        start = time.monotonic()
        result = _play(config, parts, how, label)
        seconds = time.monotonic() - start
        scores[label] = result["returns"]
        rows.append(_row(config, how, result, seconds))
        if how == "agent" and config.video:
            write_mp4(Path(config.video), result["frames"], fps=decisions_per_second(parts))
    print_scores(config.task, config.eval_episodes, scores)
    if config.video:
        print(f"Video: {config.video}")
    write_rows(config.out, rows)


def _play(config: EvaluateConfig, parts: Parts, how: str, label: str) -> dict:
    steps = parts.env.episode_steps
    bar = progress_bar(range(steps), label, 0, steps)
    result = play(config, parts, how, lambda: next(bar, None))
    next(bar, None)  # ends the line
    return result


def _row(config: EvaluateConfig, how: str, result: dict, seconds: float) -> dict:
    returns = result["returns"]
    low, high = interval(returns) or (None, None)
    return {
        "run": config.run,
        "task": config.task,
        "seed": config.seed,
        "encoder": choice(config, "encoder"),
        "agent": choice(config, "agent"),
        "acting": how,
        "episodes": len(returns),
        "return_mean": float(np.mean(returns)),
        "return_low": low,
        "return_high": high,
        "return_min": min(returns),
        "return_max": max(returns),
        "decisions": len(result["actions"]),
        "seconds": round(seconds, 3),
        "device": config.device,
    }


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    cli.main(run, EvaluateConfig, GROUPS, base="run", argv=current_names(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
