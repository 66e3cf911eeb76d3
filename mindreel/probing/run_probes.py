"""The probes of a run: what its encoder's features know of the simulator's state, on held-out episodes."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.agents.checkpoint import fitting
from mindreel.agents.collector import Collector
from mindreel.agents.replay import Replay
from mindreel.assembly import Parts, build_env, checkpoint_of, load_parts
from mindreel.encoders import Pretrained, make_encoder
from mindreel.encoders.probes.bootstrap import bootstrap
from mindreel.encoders.probes.regression import effective_rank, linear_predictions, mlp_predictions, r2
from mindreel.probing.suites.scoring import rows_of
from mindreel.probing.target_names import target_names
from mindreel.run_config import RunConfig, choice
from mindreel.runs.progress import stage_bar

_HELD_OUT_SEED = 20_000
_LONGEST = 1000  # decisions of an episode, of tasks whose episodes do not end
_RANK_ROWS = 1000  # more would make the raw pixels' principal axes the slowest part


def probe_run(config: RunConfig) -> list[dict]:
    """`probe_table` of a finished or stopped run, from its checkpoint.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: the run reads the simulator's state and has no encoder to probe.
    """
    if choice(config, "encoder") == "state":
        raise ValueError("This run reads the simulator's state itself: there is no encoder to probe.")
    checkpoint = checkpoint_of(config.run)
    parts, state = load_parts(config, checkpoint)
    replay = Replay(config.loop.replay_capacity, config.env.num_envs, parts.env.device)
    with fitting(checkpoint):
        replay.load_state_dict(state["replay"])
    torch.manual_seed(config.seed)
    learned = state["counters"]["updates"] > 0
    return probe_table(config, parts, replay, config.loop.noise if learned else None)


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
        rows: encoder, probe, target, r2 (also as score), its 95% interval low to high (bootstrap over episodes; None
        with one or two), and the effective rank and feature std of the encoder.
    """
    encoder = parts.encoder
    if not encoder.clip_frames:
        return []
    encoders = {choice(config, "encoder"): encoder}
    if parts.pretrainer is not None:
        before = "as published" if isinstance(encoder, Pretrained) else "untrained"
        encoders[before] = _at_the_start(config, parts, replay)
    train_clips, train_state = _rows(replay, config.probe.rows, encoder.clip_frames)
    held_out = held_out_episodes(config, parts, agent_noise)
    test_clips, test_state, episode = _held_out_rows(held_out, config.probe.held_out_rows, encoder.clip_frames)
    features = {name: (_encode(one, train_clips), _encode(one, test_clips)) for name, one in encoders.items()}
    if "pixels" not in features:  # the encoder of that name has its own row
        features["pixels"] = (_pixels(train_clips), _pixels(test_clips))
    # A column that does not vary in the held-out rows (a fixed target, say) cannot be scored.
    varies = r2(test_state, test_state) == 1
    readable = target_names(config, parts.env.state_names)
    names = [name for name, keep in zip(readable, varies.tolist(), strict=True) if keep]
    rows = []
    bar = stage_bar("probe", 2 * len(features))
    for encoder_name, (train, test) in features.items():
        rank, std = float(effective_rank(test[:_RANK_ROWS])), float(test.float().std(0).mean())
        spread = {"effective_rank": rank, "feature_std": std}
        for probe_name, probe in (("linear", linear_predictions), ("mlp", mlp_predictions)):
            guess = probe(config.probe, train, train_state[:, varies], test)
            score = partial(r2, guess, test_state[:, varies])
            scores = bootstrap(score, episode, config.probe.resamples)
            for row in rows_of(probe_name, names, scores, episode):
                rows.append({"encoder": encoder_name} | row | {"r2": row["score"], **spread})
            bar.update()
    bar.close()
    return rows


def _at_the_start(config: RunConfig, parts: Parts, replay: Replay):
    """The network with its initial weights, and its normalisation fitted to the same frames."""
    torch.manual_seed(config.seed)
    env = parts.env
    encoder = make_encoder(config.encoder, env.action_dim, len(env.state_names)).to(env.device)
    encoder.copy_normalisation(parts.encoder)
    encoder.eval().fit_readout(_rows(replay, config.probe.rows, encoder.clip_frames)[0])
    return encoder


def held_out_episodes(config: RunConfig, parts: Parts, agent_noise: float | None) -> Replay:
    """One fresh episode in each environment, half of them by the agent with noise, half by noise alone.

    Without `agent_noise` all are by noise alone, as the first rollouts of a run are.
    """
    env = build_env(config, config.env.num_envs, config.seed + _HELD_OUT_SEED)
    steps = int(min(env.episode_steps, _LONGEST))
    replay = Replay((steps + 2) * env.num_envs, env.num_envs, env.device)
    collector = Collector(env, parts.encoder, replay, store_latents=False)
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
    """Random clips uint8 (N, F, 3, H, W) and the state at their newest frame (N, K), by environment and time."""
    batch = replay.sample(count, 1, ("state",), clip_frames, in_order=True)
    return batch["frames"][:, :clip_frames], batch["state"][:, 0]


def _held_out_rows(replay: Replay, count: int, clip_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same of the first episode of each environment, and the environment's number, (N,)."""
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
