"""Surprise at movies of what cannot happen."""

import torch
from einops import rearrange
from torch import Tensor

from mindreel.encoders.probes.anomaly import (
    Expectation,
    auroc,
    fit_expectation,
    movie_starts,
    pairwise_accuracy,
    surprise,
    surprise_across,
)
from mindreel.encoders.probes.bootstrap import weighted_mean
from mindreel.envs.checks.violations import HIDDEN, Movie, Pair, Stage
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites.scoring import scored

_CALM, _AFTER = 4, 16  # decisions of a movie between its first whole clip and the violation, and from there on


def anomaly(data: ProbeData) -> list[dict]:
    """How often the predictor is more surprised by the impossible movie of a pair, and the number of pairs."""
    test, lead = data.test, data.encoder.clip_frames - 1
    at = lead + _CALM
    length = at + max(_AFTER, HIDDEN + lead + 1)  # so that a whole clip is left when the screen is gone
    episode, step = movie_starts(len(test), test.steps - length + 1, data.movies)
    if not len(episode):
        raise ValueError(f"A movie has {length} decisions: rollouts.decisions={test.steps} is too short for anomalies.")
    start = {"qpos": test.qpos[episode, step], "qvel": test.qvel[episode, step], "geom_xpos": test.geom_xpos[episode]}
    action = test.action[episode[:, None], step[:, None] + torch.arange(length)].to(data.device)
    learned = data.components(data.features(data.train)), data.train.action.to(data.device)
    expectation = fit_expectation(data.config, data.predictor, *learned)
    episode = episode.to(data.device)
    rows, surprises = [], []
    for violation, pair in _stage(data, len(episode)).pairs(start, action, at):
        possible, impossible = (_surprise(data, expectation, pair, x) for x in (pair.possible, pair.impossible))
        kept = pair.differs & possible.isfinite() & impossible.isfinite()
        surprises.append((possible[kept], impossible[kept], episode[kept]))
        rows += _surprises(data, violation, *surprises[-1])
    return rows + _surprises(data, "all", *(torch.cat(parts) for parts in zip(*surprises, strict=True)))


def _stage(data: ProbeData, movies: int) -> Stage:
    """Environments like those that the rollouts were made in."""
    env = data.env
    return Stage(
        data.task,
        movies,
        data.device,
        env.render,
        data.test.metadata.action_repeat,
        frame_skip=env.frame_skip,
        max_contacts=env.max_contacts,
        max_constraints=env.max_constraints,
        randomize=env.randomize,
    )


def _surprises(data: ProbeData, target: str, possible: Tensor, impossible: Tensor, episode: Tensor) -> list[dict]:
    count = float(len(possible))
    rows = [{"probe": "pairs", "target": target, "score": count, "low": count, "high": count}]
    if not len(possible):
        return rows
    pairwise = weighted_mean(pairwise_accuracy(possible, impossible))
    rows += scored(data, "pairwise accuracy", [target], pairwise, episode)
    return rows + scored(data, "AUROC", [target], lambda w: auroc(possible, impossible, w)[None], episode)


@torch.no_grad()
def _surprise(data: ProbeData, expectation: Expectation, pair: Pair, movie: Movie) -> Tensor:
    """Surprise at one movie of each pair, from where it can differ from the other: (M,)."""
    lead = data.encoder.clip_frames - 1
    movies = rearrange(movie.frames.unfold(1, lead + 1, 1), "m t c h w f -> m t f c h w")  # t = T + 1 - lead
    z = torch.stack([data.components(data.encoder(clips)) for clips in movies])
    action = movie.action[:, lead:]
    first = max(0, pair.before - lead)  # the last clip before the violation, or the movie's first
    if pair.after == pair.before + 1:
        return surprise(data.predictor, expectation, z[:, first:], action[:, first:])
    revealed = pair.after  # the clip that begins with the first frame without the screen
    return surprise_across(data.predictor, expectation, z[:, first : revealed + 1], action[:, first:revealed])
