"""Generating a dataset of rollouts: episodes of one task by each policy, and the file that holds them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mujoco
import torch
from torch import Tensor

from mindreel.agents.protocols import FeatureEncoder, Policy
from mindreel.agents.rollout_worker import RolloutWorker, uniform_policy
from mindreel.assembly import build_warp, checkpoint_of
from mindreel.envs import WarpEnv
from mindreel.envs.warp.visibility import in_view
from mindreel.rollouts.dataset import Metadata, RolloutConfig, Rollouts, held_out_episodes
from mindreel.rollouts.policies import Policies, policies_of_run, trained_policies
from mindreel.run_config import RunConfig
from mindreel.runs.progress import stage_bar
from mindreel.tables import print_table

_SEED, _SEED_STEP = 39_001, 1000  # so that no rollout repeats another seed's, or a training or evaluation episode


def make_rollouts(config: RunConfig, rollouts: RolloutConfig, path: Path) -> Rollouts:
    """The rollouts in the file `path`, made now if there are none yet."""
    if path.is_file():
        return Rollouts.load(path)
    if rollouts.seed is not None:
        config = replace(config, seed=rollouts.seed)
    policies: Policies = {}
    if config.run:
        policies = policies_of_run(config, checkpoint_of(config.run))
    elif {"medium", "expert"} & set(rollouts.policies):
        policies = trained_policies(config, rollouts, path.with_suffix(""))
    with stage_bar("rollouts", len(rollouts.policies) * rollouts.decisions) as bar:
        made = collect(config, rollouts, policies, bar.update)
    made.save(path)
    print(f"\n{config.task}: {len(made)} episodes of {made.steps} decisions, in {path}")
    pairs = zip(made.metadata.policies, made.metadata.returns, strict=True)
    print_table([{"policy": name, "return": mean} for name, mean in pairs], {"policy": "policy", "return": "return"})
    return made


def collect(config: RunConfig, rollouts: RolloutConfig, policies: Policies, tick: Callable[[], object]) -> Rollouts:
    """Episodes of the config's task by each policy.

    Args:
        config: task, worlds' picture and action repeat, seed and device.
        rollouts: how many and how long.
        policies: for medium and expert, how they act and the encoder they see through; None for the others.
        tick: called after each decision of all worlds.

    Raises:
        ValueError: mujoco_warp does not simulate, or too few episodes of a policy last as long as they should.
    """
    parts, metadata, returns = [], None, []
    seed = _SEED + _SEED_STEP * config.seed
    for index, name in enumerate(rollouts.policies):
        env = build_warp(config, rollouts.episodes, seed + index, ("pixels", "state", "behaviour"))
        rollouts = replace(rollouts, decisions=min(rollouts.decisions, env.episode_steps))
        torch.manual_seed(seed + index)
        columns, broken = _play(env, config, rollouts, name, policies.get(name), tick)
        columns["policy"] = torch.full((rollouts.episodes,), index)
        kept = {key: value[~broken] for key, value in columns.items()}
        _check_left(name, rollouts, int((~broken).sum()))
        returns.append(float(kept["reward"].sum(1).mean()))
        parts.append(kept)
        metadata = metadata or _metadata(env, rollouts, kept)
    assert metadata is not None
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    joined["episode"] = torch.arange(len(joined["policy"]))
    return Rollouts(replace(metadata, returns=tuple(returns)), **joined)


def _check_left(policy: str, rollouts: RolloutConfig, left: int) -> None:
    """Whether enough of a policy's episodes did not end before their time; says how many of them are left out."""
    if left < rollouts.episodes:
        short = f"{rollouts.episodes - left} of {rollouts.episodes} episodes by {policy} ended before"
        if held_out_episodes(rollouts.held_out, left) >= left:
            raise ValueError(f"{short} rollouts.decisions={rollouts.decisions}: ask for fewer decisions.")
        print(f"\n{short} {rollouts.decisions} decisions and are left out: those that remain may not be typical.")


def _play(
    env: WarpEnv,
    config: RunConfig,
    rollouts: RolloutConfig,
    name: str,
    found: tuple[Policy, FeatureEncoder] | None,
    tick: Callable[[], object],
) -> tuple[dict[str, Tensor], Tensor]:
    """One episode in every world: columns (B, T or T + 1, ...), and the worlds whose episode broke off, (B,)."""
    policy, encoder, noise = None, None, 1.0  # correlated noise alone
    if name == "random":
        policy, noise = uniform_policy(env), 0.0
    elif found is not None:
        (policy, encoder), noise = found, rollouts.noise
    worker = RolloutWorker(env, encoder, reset_ended=False)
    broken = torch.zeros_like(worker.first)
    rows: dict[str, list[Tensor]] = {}

    def note(**values: Tensor) -> None:
        for key, value in values.items():
            rows.setdefault(key, []).append(value.to("cpu", copy=True))

    def note_observation() -> None:
        note(**{key: worker.observation[key] for key in ("pixels", "state", "behaviour")})
        note(qpos=env.sim.qpos, qvel=env.sim.qvel, in_view=in_view(env.sim, config.env.render))

    note_observation()
    places = env.sim.data("geom_xpos").to("cpu", copy=True)
    for _ in range(rollouts.decisions):
        step = worker.step(policy, noise)
        note(action=step.action, reward=step.reward)
        note_observation()
        if len(rows["action"]) < env.episode_steps:
            broken |= step.done
        tick()
    columns = {key: torch.stack(values, 1) for key, values in rows.items()}
    return columns | {"geom_xpos": places}, broken.cpu()


def _metadata(env: WarpEnv, rollouts: RolloutConfig, columns: dict[str, Tensor]) -> Metadata:
    return Metadata(
        task=env.task_name,
        policies=rollouts.policies,
        returns=(),
        state_names=env.state_names,
        angles=_angles(env, columns["state"], columns["qpos"]),
        behaviours=env.task.behaviours,
        action_repeat=env.action_repeat,
    )


def _angles(env: WarpEnv, state: Tensor, qpos: Tensor) -> tuple[int, ...]:
    """Entries of the state that are a hinge's angle as it is: those that equal it in every frame."""
    model = env.task.model
    kinds, places = model.jnt_type, model.jnt_qposadr  # pyright: ignore[reportAttributeAccessIssue]
    hinge = mujoco.mjtJoint.mjJNT_HINGE  # pyright: ignore[reportAttributeAccessIssue]
    hinges = [int(place) for kind, place in zip(kinds, places, strict=True) if kind == hinge]
    same = (state[..., :, None] == qpos[..., None, hinges]).flatten(0, 1).all(0)  # (n, hinges)
    return tuple(same.any(1).nonzero().flatten().tolist())
