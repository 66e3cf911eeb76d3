"""Every number of a config says its range, and values out of it are refused before anything is made."""

import pytest

from mindreel import cli
from mindreel.run_config import GROUPS, TrainConfig

MISUSES = [
    "loop.log_every=0",
    "loop.updates_per_decision=0",
    "loop.updates_per_decision=-1",
    "loop.refresh_until=0",
    "loop.refresh_until=1.5",
    "loop.updates=-1",
    "loop.noise=-0.1",
    "loop.checkpoint_seconds=-1",
    "loop.eval_every=-1",
    "loop.refreshes=-1",
    "loop.seed_decisions=0",
    "loop.replay_capacity=0",
    "agent.batch_size=0",
    "agent.horizon=0",
    "agent.n_step=0",
    "agent.rho=0",
    "agent.rho=2",
    "agent.grad_clip=0",
    "agent.target_rate=0",
    "agent.target_rate=1.1",
    "agent.lr=0",
    "agent.lr=-1",
    "agent.reward_coef=-1",
    "agent.planner.elites=513",
    "agent.planner.temperature=0",
    "agent.planner.iterations=0",
    "agent.planner.min_std=3",
    "agent.planner.policy_samples=513",
    "world_model.latent_dim=63",
    "world_model.latent_dim=0",
    "world_model.num_q=0",
    "world_model.bins=1",
    "world_model.simnorm_group=0",
    "world_model.log_std_min=3",
    "world_model.dropout=1",
    "probe.rows=0",
    "probe.steps=-1",
    "pretrain.steps=-1",
    "pretrain.warmup=-1",
    "pretrain.tflop=nan",
    "pretrain.tflop=-1",
    "pretrain.batch_size=1",
    "pretrain.lr=inf",
    "encoder.jepa_coef=-1",
    "encoder.ema_start=1.5",
    "encoder.auxiliary.future_coef=-1",
    "decoder_steps=-1",
    "eval_episodes=0",
    "seed=-1",
    "seed=18446744073709551616",
    "env.num_envs=0",
    "env.action_repeat=0",
    "env.workers=-1",
]


@pytest.mark.parametrize("argument", MISUSES)
def test_values_out_of_range_are_refused_by_name(argument: str) -> None:
    field, _, value = argument.partition("=")
    with pytest.raises(ValueError) as caught:
        cli.compose(TrainConfig, GROUPS, [argument])
    said = str(caught.value)
    assert field.rpartition(".")[2] in said and value.lstrip("-") in said and "\n" not in said


def test_numbers_say_their_range() -> None:
    for name, value, schema in cli.walk(TrainConfig()):
        if name.startswith(("loop.", "agent.", "pretrain.", "probe.", "world_model.")) and type(value) in (int, float):
            limits = [key for key in ("minimum", "exclusiveMinimum") if key in schema]
            assert limits or name.startswith("world_model.log_std"), f"{name} has no lowest value"
