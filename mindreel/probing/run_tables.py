"""The probe table: what an encoder's features know of the simulator's state, on held-out episodes."""

import math
import statistics
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.agents.collector import Collector, Eyes
from mindreel.agents.replay import Replay
from mindreel.assembly import Parts, build_env
from mindreel.encoders import Pretrained, make_encoder
from mindreel.encoders.probes.bootstrap import bootstrap
from mindreel.encoders.probes.regression import effective_rank, linear_predictions, mlp_predictions, r2
from mindreel.probing.suites import rows_of
from mindreel.run_config import RunConfig, choice
from mindreel.tables import print_table

_HELD_OUT_SEED = 20_000
_LONGEST = 1000  # decisions of an episode, of tasks whose episodes do not end
_RANK_ROWS = 1000  # more would make the raw pixels' principal axes the slowest part


def probe_table(config: RunConfig, parts: Parts, replay: Replay, agent_noise: float | None) -> list[dict]:
    """Linear and MLP probes of the run's encoder, of the same network untrained or as published, and of raw pixels.

    Probes learn from rows of replay and are scored on episodes that neither encoder nor agent has seen.

    Args:
        config: the run's.
        parts: its encoder, and the agent that plays half of the held-out episodes.
        replay: the run's.
        agent_noise: exploration noise of the held-out episodes; None where no agent has learned yet, so that
            noise alone plays, as it did in replay.

    Returns:
        rows: encoder, probe, target, r2 (score, too), its 95% interval low to high (bootstrap over episodes), and
        for each encoder effective rank and feature std.
    """
    encoder = parts.encoder
    if not encoder.clip_frames:
        return []
    encoders = {choice(config, "encoder"): encoder}
    if parts.pretrainer is not None:
        before = "as published" if isinstance(encoder, Pretrained) else "untrained"
        encoders[before] = _as_it_was(config, parts, replay)
    train_clips, train_state = _rows(replay, config.probe.rows, encoder.clip_frames)
    held_out = held_out_episodes(config, parts, agent_noise)
    test_clips, test_state, episode = _held_out_rows(held_out, config.probe.held_out_rows, encoder.clip_frames)
    features = {name: (_encode(one, train_clips), _encode(one, test_clips)) for name, one in encoders.items()}
    if "pixels" not in features:  # the encoder of that name has its own row
        features["pixels"] = (_pixels(train_clips), _pixels(test_clips))
    # A column that does not vary in the held-out rows (a fixed target, say) cannot be scored.
    varies = r2(test_state, test_state) == 1
    names = [name for name, keep in zip(parts.env.state_names, varies.tolist(), strict=True) if keep]
    rows = []
    for encoder_name, (train, test) in features.items():
        rank, std = float(effective_rank(test[:_RANK_ROWS])), float(test.float().std(0).mean())
        spread = {"effective_rank": rank, "feature_std": std}
        for probe_name, probe in (("linear", linear_predictions), ("mlp", mlp_predictions)):
            guess = probe(config.probe, train, train_state[:, varies], test)
            score = partial(r2, guess, test_state[:, varies])
            scores = bootstrap(score, episode, config.probe.resamples)
            for row in rows_of(probe_name, names, scores):
                rows.append({"encoder": encoder_name} | row | {"r2": row["score"], **spread})
    return rows


def _as_it_was(config: RunConfig, parts: Parts, replay: Replay):
    """The same network with the weights that it began with, its normalisation fitted to the same frames."""
    torch.manual_seed(config.seed)
    env = parts.env
    encoder = make_encoder(config.encoder, env.action_dim, len(env.state_names)).to(env.device)
    encoder.fit_like(parts.encoder)
    encoder.eval().fit_readout(_rows(replay, config.probe.rows, encoder.clip_frames)[0])
    return encoder


def held_out_episodes(config: RunConfig, parts: Parts, agent_noise: float | None) -> Replay:
    """One fresh episode in each world, half of them by the agent with noise, half by noise alone.

    Without `agent_noise` they are all by noise alone, as the first rollouts of a run are.
    """
    env = build_env(config, config.env.num_envs, config.seed + _HELD_OUT_SEED)
    steps = int(min(env.episode_steps, _LONGEST))
    replay = Replay((steps + 2) * env.num_envs, env.num_envs, env.device)
    collector = Collector(env, Eyes(parts.encoder), replay, store_latents=False)
    agent_plays = torch.arange(env.num_envs, device=env.device) % 2 == 0
    model = parts.agent.model

    def policy(features: Tensor, first: Tensor) -> Tensor:
        return model.pi(model.encode(features))[2] * agent_plays[:, None]

    for _ in range(steps):
        if agent_noise is None:
            collector.step(None, 1.0, "")
        else:
            collector.step(policy, agent_noise, "")
    return replay


def _rows(replay: Replay, count: int, clip_frames: int) -> tuple[Tensor, Tensor]:
    """Random clips uint8 (N, F, 3, H, W) with the state at their newest frame (N, K), in order of worlds and time."""
    batch = replay.sample(count, 1, ("state",), clip_frames, in_order=True)
    return batch["frames"][:, :clip_frames], batch["state"][:, 0]


def _held_out_rows(replay: Replay, count: int, clip_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same of the first episode of each world, and which world it is, (N,)."""
    saved = replay.state_dict()
    data, written = saved["data"], saved["written"]
    first = data["episode"] == 0  # (worlds, rows)
    first &= torch.arange(first.shape[1], device=first.device) < written[:, None]
    found = first.nonzero()
    world, step = found[torch.randperm(len(found), device=found.device)[:count]].unbind(1)
    when = (step[:, None] + torch.arange(1 - clip_frames, 1, device=step.device)).clamp(min=0)
    return data["pixels"][world[:, None], when], data["state"][world, step], world


@torch.no_grad()
def _encode(encoder, clips: Tensor) -> Tensor:
    return torch.cat([encoder(part) for part in clips.split(256)]).float()


def _pixels(clips: Tensor) -> Tensor:
    """Grey frames at half their size, as rows: (N, F H W / 4). The baseline that needs no encoder."""
    rows = [F.avg_pool2d(part.float().mean(2) / 255, 2).flatten(1) for part in clips.split(512)]
    return torch.cat(rows)


def print_probes(rows: list[dict]) -> None:
    """Held-out R2 of each encoder, a table for each kind of probe, then rank and spread of the features."""
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    for probe, title in (("linear", "Linear probe"), ("mlp", "MLP probe")):
        scored = [row for row in rows if row["probe"] == probe]
        means = {e: statistics.fmean(row["r2"] for row in scored if row["encoder"] == e) for e in encoders}
        print(f"\n{title}: held-out R2 with 95% interval")
        print_table([*_pivoted(scored, ["target"]), {"target": "mean"} | means], _headed(["target"], encoders))
    last = {row["encoder"]: row for row in rows}
    print("\nFeatures")
    names = {"effective_rank": "effective rank", "feature_std": "feature std"}
    lines = [{"what": text} | {e: last[e][key] for e in encoders} for key, text in names.items()]
    print_table(lines, _headed(["what"], encoders))


def over_seeds(rows: Sequence[dict]) -> list[dict]:
    """One row for all seeds of a cell, named by encoder and variant: the mean score.

    Its interval reaches from the lowest to the highest end of the seeds' own.
    """
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        named = ", ".join(filter(None, (row["encoder"], row.get("variant"))))
        place = {"encoder": named} | {key: row[key] for key in ("task", "suite", "probe", "target")}
        found.setdefault(tuple(place.items()), []).append(row)
    pooled = []
    for place, own in found.items():
        row = dict(place) | {"score": statistics.fmean(one["score"] for one in own)}
        if all("low" in one for one in own):
            row |= {"low": min(one["low"] for one in own), "high": max(one["high"] for one in own)}
        pooled.append(row)
    return pooled


def over_tasks(rows: Sequence[dict]) -> list[dict]:
    """Means over tasks of each encoder's mean R2 of the state, where there are several tasks: `over_seeds` rows.

    Tasks are independent, so the lengths of their intervals to each side add up in quadrature.
    """
    means = [row for row in rows if row["suite"] == "state" and row["target"] == "mean"]
    tasks = {row["task"] for row in means}
    pooled = []
    for encoder, probe in dict.fromkeys((row["encoder"], row["probe"]) for row in means):
        own = [row for row in means if (row["encoder"], row["probe"]) == (encoder, probe)]
        if len(tasks) < 2 or len(own) < len(tasks):
            continue
        score, count = statistics.fmean(row["score"] for row in own), len(own)
        down, up = (math.hypot(*(row[end] - row["score"] for row in own)) / count for end in ("low", "high"))
        about = {"encoder": encoder, "task": f"all {count} tasks", "suite": "state", "probe": probe, "target": "mean"}
        pooled.append(about | {"score": score, "low": score - down, "high": score + up})
    return pooled


def print_comparison(rows: list[dict]) -> None:
    """One table of all scores with their intervals: a line for each task, probe and target."""
    keys = ["task", "suite", "probe", "target"]
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    print()
    print_table(_pivoted(rows, keys), {key: key for key in keys} | {name: name for name in encoders})


def _pivoted(rows: list[dict], keys: Sequence[str]) -> list[dict]:
    """A line for each combination of `keys`, with each encoder's score and interval as text."""
    lines: dict[tuple, dict] = {}
    for row in rows:
        place = tuple(row[key] for key in keys)
        line = lines.setdefault(place, dict(zip(keys, place, strict=True)))
        low, high = row.get("low"), row.get("high")
        spread = "" if low is None or high is None or low == high else f" [{low:.2f}, {high:.2f}]"
        line[row["encoder"]] = f"{row['score']:.2f}{spread}"
    return list(lines.values())


def _headed(keys: Sequence[str], encoders: Sequence[str]) -> dict[str, str]:
    return {key: "" for key in keys} | {name: name for name in encoders}
