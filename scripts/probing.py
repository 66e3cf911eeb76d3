"""The probe table: what an encoder's features know of the simulator's state, on held-out episodes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from agents.collector import Collector, Eyes
from agents.replay import Replay
from assemble import Parts, TrainConfig, build_env, choice
from encoders import make_encoder
from encoders.probe import effective_rank, linear_probe, mlp_probe

_TRAIN_ROWS = 6000
_TEST_ROWS = 3000
_HELD_OUT_SEED = 20_000


def probe_table(config: TrainConfig, parts: Parts, replay: Replay) -> list[dict]:
    """Linear and MLP probes of the run's encoder, of the same network untrained, and of raw pixels.

    Probes learn from rows of replay and are scored on episodes that neither encoder nor agent has seen.

    Returns:
        rows: encoder, probe, target, r2, and for each encoder effective rank and feature std.
    """
    encoder = parts.encoder
    if not encoder.clip_frames:
        return []
    encoders = {choice(config, "encoder"): encoder}
    if parts.pretrainer is not None:
        encoders["untrained"] = _untrained(config, parts, replay)
    train_clips, train_state = _rows(replay, _TRAIN_ROWS, encoder.clip_frames)
    held_out = held_out_episodes(config, parts)
    test_clips, test_state = _rows(held_out, _TEST_ROWS, encoder.clip_frames)
    features = {name: (_encode(one, train_clips), _encode(one, test_clips)) for name, one in encoders.items()}
    features["pixels"] = (_pixels(train_clips), _pixels(test_clips))
    # A column that does not vary in the held-out rows (a fixed target, say) cannot be scored.
    varies = test_state.std(0) > 1e-6
    names = [name for name, keep in zip(parts.env.state_names, varies.tolist(), strict=True) if keep]
    rows = []
    for encoder_name, (train, test) in features.items():
        spread = {"effective_rank": float(effective_rank(test)), "feature_std": float(test.float().std(0).mean())}
        for probe_name, probe in (("linear", linear_probe), ("mlp", mlp_probe)):
            scores = probe(config.probe, train, train_state[:, varies], test, test_state[:, varies])
            for target, score in zip(names, scores.tolist(), strict=True):
                rows.append(
                    {"encoder": encoder_name, "probe": probe_name, "target": target, "r2": score, **spread}
                )
    return rows


def _untrained(config: TrainConfig, parts: Parts, replay: Replay):
    """The same network with its initial weights, its normalisation fitted to the same frames."""
    torch.manual_seed(config.seed)
    untrained = make_encoder(config.encoder, parts.env.action_dim, len(parts.env.state_names)).to(parts.env.device)
    untrained.mean_frame.copy_(parts.encoder.mean_frame)
    untrained.pixel_std.copy_(parts.encoder.pixel_std)
    return untrained.eval()


def held_out_episodes(config: TrainConfig, parts: Parts) -> Replay:
    """One fresh episode in each world, half of them by the agent with noise, half by noise alone."""
    env = build_env(config, config.env.num_envs, config.seed + _HELD_OUT_SEED)
    replay = Replay((env.episode_steps + 2) * env.num_envs, env.num_envs, env.device)
    collector = Collector(env, Eyes(parts.encoder), replay, store_latents=False)
    agent_plays = torch.arange(env.num_envs, device=env.device) % 2 == 0
    model = parts.agent.model

    def policy(features: Tensor, first: Tensor) -> Tensor:
        return model.pi(model.encode(features))[2] * agent_plays[:, None]

    for _ in range(env.episode_steps):
        collector.step(policy, config.loop.noise, "")
    return replay


def _rows(replay: Replay, count: int, clip_frames: int) -> tuple[Tensor, Tensor]:
    """Random clips uint8 (N, F, 3, H, W) with the state at their newest frame (N, K)."""
    batch = replay.sample(count, 1, ("state",), clip_frames)
    return batch["frames"][:, :clip_frames], batch["state"][:, 0]


@torch.no_grad()
def _encode(encoder, clips: Tensor) -> Tensor:
    return torch.cat([encoder(part) for part in clips.split(256)]).float()


def _pixels(clips: Tensor) -> Tensor:
    """Grey frames at half their size, as rows: (N, F H W / 4). The baseline that needs no encoder."""
    rows = [F.avg_pool2d(part.float().mean(2) / 255, 2).flatten(1) for part in clips.split(512)]
    return torch.cat(rows)
