"""Behaviours: states set by hand are called what a person who watches would call them."""

import math

import pytest
import torch
from torchrl.envs.utils import check_env_specs

from mindreel.agents.collector import Collector
from mindreel.agents.replay import Replay
from mindreel.encoders import StateConfig, make_encoder
from mindreel.envs import TASKS, EnvConfig, Task, WarpEnv, WarpSim, make_env
from mindreel.envs.tasks.pendulum import Pendulum

TURN = 2 * math.pi

# domain-task -> (positions and velocities by joint, the rest as the model has them; words of the sentence)
Joints = dict[str, float | list[float]]
Case = tuple[Joints, Joints, str]
CASES: dict[str, list[Case]] = {
    "cartpole-swingup": [
        ({"hinge_1": 0.1}, {"hinge_1": 0.3}, "balancing its pole upright"),
        ({"hinge_1": 0.1, "slider": 1.5}, {"slider": 2.0}, "balancing its pole upright"),
        ({"hinge_1": math.pi + 0.2}, {"hinge_1": -0.5}, "hanging down at rest"),
        ({"hinge_1": 2.5}, {"hinge_1": -3.0}, "swinging its pole up"),
        ({"hinge_1": -2.5}, {"hinge_1": 3.0}, "swinging its pole up"),
        ({"hinge_1": -0.5}, {"hinge_1": 3.0}, "swinging its pole up"),
        ({"hinge_1": 1.0}, {"hinge_1": 0.5}, "tipping over and falling"),
        ({"hinge_1": -0.1}, {"hinge_1": -4.0}, "tipping over and falling"),
        ({"hinge_1": 2.5}, {"hinge_1": 3.0}, "swinging down"),
        ({"hinge_1": 2.5 - TURN}, {"hinge_1": 3.0}, "swinging down"),
    ],
    "cartpole-two_poles": [
        ({"hinge_1": 0.1, "hinge_2": -0.2}, {}, "balancing its pole upright"),
        ({"hinge_1": math.pi + 0.1, "hinge_2": 0.1}, {}, "hanging down at rest"),
        ({"hinge_1": 2.5}, {"hinge_1": -3.0}, "swinging its pole up"),
        ({"hinge_1": 0.1, "hinge_2": 1.0}, {"hinge_2": 1.0}, "tipping over and falling"),
        ({"hinge_1": 2.0, "hinge_2": 0.5}, {"hinge_2": 2.0}, "swinging down"),
    ],
    "acrobot-swingup": [
        ({"shoulder": 0.03}, {"shoulder": 1.0}, "holding its tip in the target"),
        ({"shoulder": math.pi}, {}, "hanging down at rest"),
        ({"shoulder": 2.5}, {"shoulder": -3.0}, "swinging its tip up"),
        ({"shoulder": math.pi, "elbow": 1.0}, {"elbow": 2.0}, "swinging its tip up"),
        ({"shoulder": 1.0}, {"shoulder": 2.0}, "falling over"),
        ({"shoulder": 2.5}, {"shoulder": 3.0}, "swinging down"),
    ],
    # The springs are at rest with all balls in a line.
    "lqr-lqr_2_1": [
        ({"joint_1": 0.02}, {}, "at rest in a line"),
        ({"joint_0": 1.0}, {}, "standing still away from their line"),
        ({"joint_0": 1.0}, {"joint_0": -1.0}, "coming back"),
        ({"joint_1": -1.0}, {"joint_1": -1.0}, "swinging away"),
    ],
    # The target lies in the middle.
    "point_mass-easy": [
        ({"root_x": 0.01}, {"root_y": 0.1}, "lying on the target"),
        ({"root_x": 0.2}, {"root_x": -0.1}, "moving towards the target"),
        ({"root_x": 0.2}, {"root_x": 0.1}, "moving away from the target"),
        ({"root_x": 0.2}, {"root_y": 0.1}, "passing by the target"),
        ({"root_x": 0.2}, {}, "resting away from the target"),
    ],
    # The target lies 1 m along x and y, the nose at the origin.
    "swimmer-swimmer6": [
        ({"rootx": 1.0, "rooty": 1.0}, {}, "nose in the target"),
        ({}, {"rootx": 0.2, "rooty": 0.2}, "moving towards the target"),
        ({}, {"rootx": -0.2}, "moving away from the target"),
        ({}, {"rootx": 0.1, "rooty": -0.1}, "moving past the target"),
        ({}, {"joint_2": -1.0}, "bending in its place"),
        ({}, {}, "lying still"),
    ],
    # With hinge 0 the tip lies in the target; with proximal 0 the finger is stretched towards the spinner.
    "finger-turn_easy": [
        ({"hinge": 0.1}, {"hinge": -20.0}, "tip is in the target"),
        ({"hinge": 3.0}, {"hinge": -20.0}, "spinning fast"),
        ({"hinge": 1.57, "proximal": 0.0}, {"hinge": 1.0}, "pushing the spinner round"),
        ({"hinge": 1.57, "proximal": 0.0}, {}, "resting against the spinner"),
        ({"hinge": 3.0}, {"hinge": -1.0}, "coasting slowly"),
        ({"hinge": 3.0}, {"distal": 1.0}, "moving clear"),
        ({"hinge": 3.0}, {}, "resting clear"),
    ],
    # The target lies 0.4 m ahead of the torso, the mouth 0.075 m.
    "fish-swim": [
        ({"root": [0.0, 0.32, 0.1, 1.0, 0.0, 0.0, 0.0]}, {}, "mouth at the target"),
        ({"root": [0.0, 0.0, 0.1, 0.0, 0.0, 1.0, 0.0]}, {}, "belly up"),
        ({"root": [0.0, 0.0, 0.1, 0.7, 0.0, 0.7, 0.0]}, {"root": [0.0, 0.1, 0.0]}, "lying on its side"),
        ({}, {"root": [0.0, 0.1, 0.0]}, "swimming forward"),
        ({}, {"root": [0.0, -0.1, 0.0]}, "drifting backward"),
        ({}, {"root": [0.0, 0.0, 0.0, 0.0, 0.0, -1.0]}, "turning in its place"),
        ({}, {}, "resting upright"),
    ],
    "hopper-hop": [
        ({"rootz": 0.3}, {"rootx": 1.0}, "leaping through the air"),
        ({}, {"rootx": 1.0}, "hopping forward"),
        ({}, {"rootx": -1.0}, "hopping backward"),
        ({}, {}, "standing upright"),
        ({"rooty": 1.5, "rootz": -0.9}, {}, "lying on the ground"),
        ({"rooty": 1.2, "rootz": -0.3}, {"rootz": -2.0}, "falling"),
        ({"hip": -1.5, "knee": 2.8, "rootz": -0.5}, {}, "crouching low"),
    ],
    "pendulum-swingup": [
        ({"hinge": 0.1}, {"hinge": -0.3}, "standing upright"),
        ({"hinge": math.pi}, {}, "hanging down at rest"),
        ({"hinge": 2.0}, {"hinge": -3.0}, "swinging up"),
        ({"hinge": 1.0}, {"hinge": 2.0}, "tipping over and falling"),
        ({"hinge": -2.0}, {"hinge": -2.0}, "swinging down"),
    ],
    # The target lies 0.2 m ahead of the shoulder, the stretched arm's finger at 0.24 m.
    "reacher-easy": [
        ({}, {"shoulder": 3.0}, "touching the target"),
        ({"shoulder": 1.0}, {"shoulder": -1.0}, "moving towards the target"),
        ({"shoulder": -1.0}, {"shoulder": 1.0}, "moving towards the target"),
        ({"shoulder": 1.0}, {"shoulder": 1.0}, "moving away from the target"),
        ({"shoulder": 0.9, "wrist": 0.5}, {"wrist": 1.5}, "moving away from the target"),
        ({"shoulder": math.pi}, {"shoulder": 1.0}, "sweeping past the target"),
        ({"shoulder": 2.0}, {}, "resting away from the target"),
    ],
    "cheetah-run": [
        ({}, {}, "staying in its place"),
        ({}, {"rootx": 1.0}, "walking forward slowly"),
        ({}, {"rootx": 6.0}, "running forward fast"),
        ({}, {"rootx": -1.0}, "moving backward"),
        ({"rooty": math.pi}, {"rootx": 1.0}, "lying on its back"),
        ({"rooty": -1.2}, {}, "rearing up on its hind legs"),
        ({"rooty": 1.2}, {"rootx": 1.0}, "tipping over onto its nose"),
    ],
    "walker-walk": [
        ({}, {}, "standing upright"),
        ({}, {"rootx": 1.0}, "walking forward"),
        ({"rooty": 0.2}, {"rootx": 5.0, "rootz": -0.8}, "running forward"),
        ({}, {"rootx": -1.0}, "stepping backward"),
        ({"rooty": 1.0, "rootz": -0.4}, {"rooty": 2.0}, "falling forward"),
        ({"rooty": 1.2, "rootz": -0.9}, {"rootz": -2.0}, "falling forward"),
        ({"rooty": -1.0, "rootz": -0.4}, {"rooty": -2.0}, "falling backward"),
        ({"rooty": 1.5, "rootz": -1.1}, {}, "lying on the ground"),
        ({"rooty": -1.5, "rootz": -1.1}, {"rootx": 0.5}, "lying on the ground"),
        ({"rootz": -0.6}, {}, "crouching low"),
        ({"rooty": 1.0, "rootz": -0.5}, {"rooty": -1.0}, "crouching low"),
    ],
    # The ball at rest is 0.2 m up, the cup's middle 0.55 m, its rim 0.6 m; the string ends at 0.492 m.
    "ball_in_cup-catch": [
        ({"ball_z": 0.33}, {}, "is in the cup"),
        ({"ball_z": 0.33, "cup_z": -0.2}, {}, "flying above the cup"),
        ({"ball_z": 0.45}, {"ball_z": -1.0}, "flying above the cup"),
        ({}, {}, "hanging still below the cup"),
        ({}, {"ball_x": 1.0}, "swinging below the cup"),
        ({"ball_x": 0.2, "ball_z": 0.2}, {"ball_z": 1.0}, "flying up outside the cup"),
        ({"ball_x": -0.2, "ball_z": 0.2}, {"ball_z": -1.0}, "falling outside the cup"),
    ],
    # The body hangs at 1.5 m, its head at 1.69 m.
    "humanoid-walk": [
        ({}, {}, "standing upright"),
        ({}, {"root": [1.0, 0.0, 0.0]}, "walking"),
        ({}, {"root": [0.0, 4.0, 0.0]}, "running"),
        ({"root": [0, 0, 1.2, 0.9, 0, 0.4, 0]}, {"root": [0.0, 0.0, -2.0]}, "falling down"),
        ({"root": [0, 0, 0.1, 0.7, 0, 0.7, 0]}, {}, "lying on the ground"),
        ({"root": [0, 0, 0.8]}, {}, "crouching or sitting low"),
    ],
    "humanoid_CMU-walk": [
        ({"root": [0, 0, 1.2, 0.7, 0.7, 0, 0]}, {}, "standing upright"),
        ({"root": [0, 0, 1.2, 0.7, 0.7, 0, 0]}, {"root": [1.0, 0.0, 0.0]}, "walking"),
        ({"root": [0, 0, 1.2, 0.7, 0.7, 0, 0]}, {"root": [0.0, 4.0, 0.0]}, "running"),
        ({"root": [0, 0, 1.2, 1, 0, 0, 0]}, {"root": [0.0, 0.0, -2.0]}, "falling down"),
        ({"root": [0, 0, 0.1, 1, 0, 0, 0]}, {}, "lying on the ground"),
        ({"root": [0, 0, 0.5, 0.7, 0.7, 0, 0]}, {}, "crouching or sitting low"),
    ],
    "quadruped-walk": [
        ({}, {}, "standing in its place"),
        ({}, {"root": [3.0, 0.0, 0.0]}, "running forward"),
        ({}, {"root": [1.0, 0.0, 0.0]}, "walking forward"),
        ({}, {"root": [-1.0, 0.0, 0.0]}, "stepping sideways or backward"),
        ({}, {"root": [0.5, 1.0, 0.0]}, "stepping sideways or backward"),
        ({"root": [0, 0, 0.5, 0, 1, 0, 0]}, {}, "lying on its back"),
        ({"root": [0, 0, 0.8, 0.8, 0.6, 0, 0]}, {}, "tipped onto its side"),
        ({"root": [0, 0, 2.0]}, {"root": [0.0, 0.0, -2.0]}, "falling"),
    ],
    "dog-walk": [
        ({}, {}, "a dog standing"),
        ({}, {"root": [5.0, 0.0, 0.0]}, "running forward"),
        ({}, {"root": [1.0, 0.0, 0.0]}, "walking forward"),
        ({}, {"root": [-1.0, 0.0, 0.0]}, "stepping sideways or backward"),
        ({"root": [0, 0, 0.2, 0, 1, 0, 0]}, {}, "lying on its back"),
        ({"root": [0, 0, 0.1, 0.7, 0.7, 0, 0]}, {}, "lying on its side"),
        ({"root": [0, 0, 0.2]}, {}, "crouching low"),
        ({"root": [0, 0, 1.0]}, {"root": [0.0, 0.0, -2.0]}, "falling"),
    ],
    # The stretched arm holds its hand 0.915 m up; the target, and the ball in it, are 0.4 m from its foot and up.
    "manipulator-bring_ball": [
        ({}, {}, "with the object at the target"),
        ({"ball_x": 0.0, "ball_z": 0.915}, {"ball_z": 1.0}, "holding the object"),
        ({"ball_x": 0.15, "ball_z": 0.915}, {"ball_z": -1.0}, "flies or falls near its hand"),
        ({"ball_x": -0.3, "ball_z": 0.2}, {"ball_x": 1.0}, "flies or falls away from it"),
        ({"ball_x": 0.1, "ball_z": 0.915}, {}, "with its hand next to the object"),
        ({"ball_x": -0.3, "ball_z": 0.022}, {}, "with its hand away from the object"),
    ],
    # The target lies on the floor below the arm's foot.
    "stacker-stack_2": [
        ({"box0_x": 0.0, "box0_z": 0.022}, {}, "at the target, its hand withdrawn"),
        (
            {"box0_x": 0.0, "box0_z": 0.022, "arm_root": 4.09, "arm_shoulder": -1.89, "arm_elbow": 0.95},
            {},
            "at the target, its hand still there",
        ),
        ({"box1_x": 0.0, "box1_z": 0.915}, {}, "holding a box"),
        ({}, {"box1_z": -1.0}, "boxes fall or slide"),
        ({}, {"arm_root": 1.0}, "boxes lying still"),
    ],
}


def place(target: torch.Tensor, value: float | list[float]) -> None:
    """Writes the value or values of one joint where it begins."""
    values = torch.tensor(value).flatten()
    target[: len(values)] = values


def called(name: str, cases: list[Case]) -> list[str]:
    """The sentences for worlds whose joints are placed as in the cases."""
    task = TASKS[name]()
    sim = WarpSim(task.model, len(cases), per_world=task.per_world)
    sim.qvel.zero_()
    for world, (places, speeds, _) in enumerate(cases):
        for joint, value in places.items():
            place(sim.qpos[world, task.model.joint(joint).qposadr[0] :], value)
        for joint, value in speeds.items():
            place(sim.qvel[world, task.model.joint(joint).dofadr[0] :], value)
    if name.startswith("reacher"):
        sim.data("geom_xpos")[:, task.model.geom("target").id, :2] = torch.tensor([0.2, 0.0])
    if name.startswith("finger"):
        sim.model("site_pos")[:, task.model.site("target").id, ::2] = torch.tensor([0.2, 0.53])
    sim.forward()
    behaviour = task.behaviour(sim)
    assert behaviour.dtype == torch.int64 and behaviour.shape == (len(cases),)
    return [task.behaviours[i] for i in behaviour.tolist()]


@pytest.mark.parametrize("name", CASES)
def test_what_a_world_does_is_called_by_its_name_and_every_sentence_is_reached(name):
    cases = CASES[name]
    found = called(name, cases)
    for sentence, (places, speeds, words) in zip(found, cases, strict=True):
        assert words in sentence, f"{places} {speeds} should be {words!r}, is {sentence!r}"
    assert set(found) == set(getattr(TASKS[name], "func", TASKS[name]).behaviours)


def test_tasks_of_a_domain_share_their_sentences_and_domains_do_not():
    classes = {name: getattr(make, "func", make) for name, make in TASKS.items()}
    sentences = {name: cls.behaviours for name, cls in classes.items() if cls.behaviours}
    assert set(CASES) <= set(sentences)
    for name in CASES:
        domain, spoken = name.partition("-")[0], sentences[name]
        assert len(set(spoken)) == len(spoken) > 1
        for other, also in sentences.items():
            assert spoken == also if other.partition("-")[0] == domain else not set(spoken) & set(also), other


def test_a_task_without_sentences_knows_nothing():
    class Silent(Pendulum):
        behaviours = ()
        behaviour = Task.behaviour

    env = WarpEnv(Silent(), EnvConfig(num_envs=2), task_name="silent", observations=("state", "behaviour"))
    assert env.reset()["behaviour"].tolist() == [-1, -1]
    check_env_specs(env)


def test_worlds_give_it_and_replay_keeps_it():
    env = make_env("walker-walk", 3, observations=("pixels", "state", "behaviour"))
    check_env_specs(env)
    encoder = make_encoder(StateConfig(), env.action_dim, len(env.state_names))
    replay = Replay(300, 3)
    collector = Collector(env, encoder, replay, store_latents=True)
    seen = [collector.worker.observation["behaviour"].clone()]
    for _ in range(40):
        collector.step(None, 1.0, "state")
        seen.append(collector.worker.observation["behaviour"].clone())
    spoken = torch.stack(seen, 1)  # (B, T)
    assert len(spoken.unique()) > 2  # a walker dropped from the air falls and comes to lie
    assert torch.equal(collector.env.task.behaviour(env.sim), spoken[:, -1])
    batch = replay.sample(64, 5, ("behaviour", "state"))
    assert batch["behaviour"].shape == (64, 6) and batch["behaviour"].dtype == torch.int64
    windows = {tuple(row.tolist()) for row in spoken[:, :-1].unfold(1, 6, 1).flatten(0, 1)}
    assert {tuple(row.tolist()) for row in batch["behaviour"]} <= windows
