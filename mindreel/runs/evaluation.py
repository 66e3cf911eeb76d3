"""Evaluation episodes, played by the agent, by its policy alone and with random actions."""

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from mindreel.agents.rollout_worker import evaluate
from mindreel.assembly import Parts, build_env
from mindreel.run_config import RunConfig

EVALUATION_SEED = 10_000  # added to the run's seed, so that no evaluation repeats a training episode


def seed_evaluation(config: RunConfig) -> None:
    """Makes what an evaluation draws at random the same each time, and unlike what training draws."""
    torch.manual_seed(config.seed + EVALUATION_SEED)


WAYS = ("agent", "policy", "random")
"""The agent as it decides, its policy without planning, uniformly random actions."""

_FEWEST_EPISODES = 3


def interval(returns: list[float]) -> list[float] | None:
    """95% interval of the mean of independent episodes (Student's t); None with one or two, which tell no spread."""
    if len(returns) < _FEWEST_EPISODES:
        return None
    mean = float(np.mean(returns))
    half = float(stats.t.ppf(0.975, len(returns) - 1) * np.std(returns, ddof=1) / math.sqrt(len(returns)))
    return [mean - half, mean + half]


def play(config: RunConfig, parts: Parts, how: str, progress=None) -> dict:
    """Plays `eval_episodes` episodes, with the same starts for each of `WAYS`; returns what `evaluate` does.

    The returns are a list. The agent's plans for the worlds that it trains in stay as they were.
    """
    env = build_env(config, config.eval_episodes, config.seed + EVALUATION_SEED)
    model = parts.agent.model

    def policy(features: Tensor, first: Tensor) -> Tensor:
        return model.pi(model.encode(features))[2]

    def act(features: Tensor, first: Tensor) -> Tensor:
        return parts.agent.act(features, first, explore=False)

    try:
        with parts.agent.in_other_worlds():
            result = evaluate(env, parts.encoder, {"agent": act, "policy": policy, "random": None}[how], progress)
    finally:
        env.close(raise_if_closed=False)
    return result | {"returns": result["returns"].tolist()}


def evaluator(config: RunConfig, parts: Parts):
    """An evaluation during training that leaves the run's random numbers as they were."""

    def run() -> dict:
        devices = [parts.env.device] if parts.env.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            seed_evaluation(config)
            returns = play(config, parts, "policy")["returns"]
        return {"eval_return_mean": float(np.mean(returns))}

    return run


def decisions_per_second(parts: Parts) -> float:
    """Decisions in a second of simulated time: the rate at which a video runs at true speed."""
    return 1 / parts.env.decision_seconds


def score_labels(agent) -> dict[str, str]:
    """The ways of acting that differ for this agent -> words for each."""
    if not agent.plans:
        return {"agent": "agent", "random": "random actions"}
    return {"agent": "agent, planning", "policy": "same agent without planning", "random": "random actions"}


def print_scores(task: str, episodes: int, scores: dict[str, list[float]]) -> None:
    """Prints mean returns with their 95% intervals.

    Args:
        task: name of the task.
        episodes: how many were played each way.
        scores: label -> returns.
    """
    ends = ", with 95% interval" if episodes >= _FEWEST_EPISODES else ""
    print(f"\n{task}: mean return of {episodes} episode{'s' if episodes > 1 else ''}{ends}")
    for label, returns in scores.items():
        found = interval(returns)
        print(f"  {label:<28} {np.mean(returns):7.1f}" + (f"   [{found[0]:.1f}, {found[1]:.1f}]" if found else ""))
