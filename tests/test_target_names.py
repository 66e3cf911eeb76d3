"""Readable names of what probes read, found by playing a task."""

import pytest
import torch

from mindreel import cli
from mindreel.probing.suites.scoring import rows_of
from mindreel.probing.target_names import target_names
from mindreel.run_config import GROUPS, RunConfig

pytestmark = pytest.mark.timeout(600)  # the first of them may have to compile kernels


def names(task: str, *state: str) -> tuple[str, ...]:
    return target_names(cli.compose(RunConfig, GROUPS, [f"task={task}"]), state)


def test_entries_are_named_after_joints_bodies_and_sensors() -> None:
    cartpole = ("position[0]", "position[1]", "position[2]", "velocity[0]", "velocity[1]")
    assert names("cartpole-swingup", *cartpole) == (
        "cart x", "cos of the pole", "sin of the pole", "cart x velocity", "pole velocity",
    )  # fmt: skip
    assert names("cartpole-two_poles", "position[1]", "position[3]") == ("cos of pole 1", "cos of pole 2")
    # dm_control's reacher: its two hinges, then the target's place less the finger's, then the hinges' velocities.
    reacher = ("position[0]", "position[1]", "to_target[0]", "to_target[1]", "velocity[0]", "velocity[1]")
    assert names("reacher-easy", *reacher) == (
        "shoulder angle", "wrist angle", "finger to target x", "finger to target y", "shoulder velocity",
        "wrist velocity",
    )  # fmt: skip
    assert names("hopper-stand", "position[0]", "touch[0]") == ("torso z", "touch[0]")  # log(1 + force) has no name


def test_naming_draws_no_random_number_of_the_run() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    names("pendulum-swingup", "orientation[0]")
    assert torch.equal(torch.get_rng_state(), before)


def test_other_simulators_keep_their_names() -> None:
    config = cli.compose(RunConfig, GROUPS, ["task=Pendulum-v1", "env.backend=gym"])
    assert target_names(config, ("observation[0]",)) == ("observation[0]",)


@pytest.mark.parametrize(("episodes", "shown"), [([0, 0, 1], False), ([0, 1, 2], True)])
def test_scores_of_one_or_two_episodes_have_no_interval(episodes: list[int], shown: bool) -> None:
    (row,) = rows_of("linear", ["cart x"], torch.tensor([[0.5], [0.25], [0.75]]), torch.tensor(episodes))
    assert row == {"probe": "linear", "target": "cart x", "score": 0.5} | (
        {"low": 0.25, "high": 0.75} if shown else {"low": None, "high": None}
    )
