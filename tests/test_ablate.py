"""Sweeps: which runs a command line asks for, what happens to each, and one that is killed and continued."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from mindreel import cli
from mindreel.encoders.pretrainer import Pretrainer, flops_per_clip
from mindreel.pretraining.compute import prepared
from mindreel.run_config import GROUPS, TrainConfig, choice
from mindreel.scripts import ablate
from mindreel.sweep import launch
from mindreel.sweep.arguments import combinations, read_axes
from mindreel.sweep.cluster import ClusterConfig, check_cluster, run_on_cluster
from mindreel.sweep.equal_compute import equal_compute
from mindreel.sweep.sweep_runs import SweepRun, begun_configs, plan_runs

ROOT = Path(__file__).parents[1]
# Every stage, and as little of each as there can be.
TINY = [
    "preset=smoke",
    "env.num_envs=2",
    "env.action_repeat=50",
    "loop.seed_decisions=30",
    "loop.updates=40",
    "loop.log_every=1",
    "loop.checkpoint_seconds=0.1",
    "agent.batch_size=8",
    "eval_episodes=1",
    "decoder_steps=0",
    "probe.steps=1",
    "probe.rows=60",
    "probe.held_out_rows=30",
]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals as they were: a sweep makes itself stoppable."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def planned_runs(folder: Path, *arguments: str, overwrite: bool = False) -> list[SweepRun]:
    return plan_runs(folder, read_axes(arguments), overwrite)


def fail(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """The one line that a mistake is answered with."""
    with pytest.raises(SystemExit) as leaving:
        ablate.main(arguments)
    errors = capsys.readouterr().err.strip().splitlines()
    assert leaving.value.code == 2 and len(errors) == 1, errors
    return errors[0]


# ---- which runs ----


def test_every_combination_is_a_cell(tmp_path: Path) -> None:
    found = planned_runs(tmp_path, "task=walker-walk,reacher-easy", "encoder=vjepa,cnn", "seed=1,2", "env.num_envs=8")
    assert [run.folder.name for run in found] == [
        f"{task}-{encoder}-mpc-{seed}"
        for seed in (1, 2)  # a first seed of everything before the second of anything
        for task in ("walker-walk", "reacher-easy")
        for encoder in ("vjepa", "cnn")
    ]
    last = found[-1].config
    assert (last.task, choice(last, "encoder"), last.seed, last.env.num_envs) == ("reacher-easy", "cnn", 2, 8)
    assert last.run == str(found[-1].folder) and not list(tmp_path.iterdir())


def test_any_field_can_be_a_list_and_is_in_the_name(tmp_path: Path) -> None:
    found = planned_runs(tmp_path, "preset=smoke", "agent=mpc,actor_critic", "loop.updates=5,6", "seed=3")
    assert {run.folder.name: run.config.loop.updates for run in found} == {
        "cartpole-swingup-vjepa-mpc-updates-5-3": 5,
        "cartpole-swingup-vjepa-mpc-updates-6-3": 6,
        "cartpole-swingup-vjepa-actor_critic-updates-5-3": 5,
        "cartpole-swingup-vjepa-actor_critic-updates-6-3": 6,
    }
    assert all(run.config.env.num_envs == 4 for run in found)  # the preset's
    assert planned_runs(tmp_path, "loop.updates=5")[0].folder.name == "cartpole-swingup-vjepa-mpc-1"


def test_tasks_from_elsewhere_are_cells_too(tmp_path: Path) -> None:
    (own,) = planned_runs(tmp_path, "task=my/tasks/balance.py")
    (gym,) = planned_runs(tmp_path, "task=Pendulum-v1", "env.backend=gym")
    assert own.folder == tmp_path / "my_tasks_balance.py-vjepa-mpc-1" and own.config.task == "my/tasks/balance.py"
    assert gym.folder == tmp_path / "Pendulum-v1-vjepa-mpc-1"


def test_a_field_of_one_encoder_is_left_out_for_the_others() -> None:
    axes = read_axes(["encoder=vjepa,cnn", "encoder.jepa_coef=0,1", "seed=1"])
    assert combinations(axes) == [
        ["seed=1", "encoder=vjepa", "encoder.jepa_coef=0"],
        ["seed=1", "encoder=vjepa", "encoder.jepa_coef=1"],
        ["seed=1", "encoder=cnn"],
    ]


def planned_steps(config: TrainConfig) -> int:
    """Steps of pretraining, counted on noise."""
    encoder, sample = prepared(config)
    return Pretrainer(config.pretrain, encoder).planned(lambda: sample, config.pretrain.steps)


def test_encoders_get_the_compute_of_the_first(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    listed = ["preset=smoke", "encoder=state,lejepa,internvideo,untrained", "encoder.projections=64", "seed=1,2"]
    axes = read_axes(listed)
    added = equal_compute(axes, [])
    printed = capsys.readouterr().out
    found = {choice(run.config, "encoder"): run for run in plan_runs(tmp_path, axes, False, added)}
    tflop = {name: run.config.pretrain.tflop for name, run in found.items()}
    assert tflop["state"] == tflop["lejepa"] == tflop["untrained"] == 0 < tflop["internvideo"]
    told = f"pretrain.tflop={tflop['internvideo']:g} for internvideo, which is what 20 steps of encoder=lejepa take"
    assert told in printed and f"pretrain.tflop={tflop['internvideo']:g}" in found["internvideo"].arguments
    assert planned_steps(found["lejepa"].config) == 20 and 10 < planned_steps(found["internvideo"].config) < 20
    for equal in (["pretrain.tflop=1"], ["pretrain.steps=2,3"], ["pretrain.steps=0"]):
        assert equal_compute(read_axes([*listed, *equal]), []) == {}
    assert equal_compute(read_axes(["encoder=vjepa,untrained,cnn"]), []) == {}


def test_a_grid_can_be_added_to_and_run_in_part(tmp_path: Path) -> None:
    def asked_for(*arguments: str) -> list[SweepRun]:
        axes = read_axes(["preset=smoke", *arguments])
        return plan_runs(tmp_path, axes, False, equal_compute(axes, begun_configs(tmp_path)))

    def begin(found: list[SweepRun]) -> dict[str, float]:
        for run in found:
            run.announce()
            (run.folder / "metrics.jsonl").touch()
        return {choice(run.config, "encoder"): run.config.pretrain.tflop for run in found}

    assert begin(asked_for("encoder=vjepa,state")) == {"vjepa": 0, "state": 0}
    both = begin(asked_for("encoder=lejepa,vjepa,state"))  # whatever the order, as much as vjepa has had
    assert both["vjepa"] == 0 < both["lejepa"]
    third = begin(asked_for("encoder=vicreg,untrained"))
    assert third == {"vicreg": both["lejepa"], "untrained": 0}
    assert begin(asked_for("encoder=lejepa")) == {"lejepa": both["lejepa"]}
    assert begin(asked_for("encoder=state", "pretrain.steps=3")) == {"state": 0}  # nothing that state is made with
    with pytest.raises(FileExistsError, match="pretrain.steps=20 there and 3 here"):
        asked_for("encoder=lejepa", "pretrain.steps=3")


def test_a_refreshed_checkpoint_counts_for_equal_compute(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    small = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(tmp_path / "dinov2")
    listed = ["preset=smoke", "encoder=vjepa,pretrained", f"encoder.source={tmp_path / 'dinov2'}"]
    assert equal_compute(read_axes(listed), []) == {}  # it is not trained: nothing is to be made equal
    refreshed = read_axes([*listed, "encoder.training_mode=refresh"])
    _, public = plan_runs(tmp_path, refreshed, False, equal_compute(refreshed, []))
    assert "steps of encoder=vjepa take" in capsys.readouterr().out
    encoder, sample = prepared(public.config)
    each = flops_per_clip(encoder, lambda: sample) * public.config.pretrain.batch_size / 1e12
    assert abs(planned_steps(public.config) * each - public.config.pretrain.tflop) <= each / 2
    assert planned_steps(public.config) != 20


def test_each_task_may_have_its_own_teacher(tmp_path: Path) -> None:
    found = planned_runs(
        tmp_path, "task=walker-walk,reacher-easy", "encoder=internvideo2", "encoder.teacher=runs/${task}"
    )
    assert [run.config.encoder.teacher for run in found] == ["runs/walker-walk", "runs/reacher-easy"]


def test_lists_in_brackets_are_one_value() -> None:
    assert combinations(read_axes(["worlds=[1,2]", "task='a,b'"])) == [["task='a,b'", "worlds=[1,2]"]]
    assert combinations(read_axes(["seed=1,2", "seed=3"])) == [["seed=3"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task=walker-walk,walker-wlk"], "unknown task 'walker-wlk': did you mean 'walker-walk'"),
        (["encoder=cnn,vjep"], "unknown encoder 'vjep': did you mean 'vjepa'"),
        (["encoder=cnn,vjepa", "encoder.jepa_coeff=0,1"], "did you mean 'encoder.jepa_coef'"),
        (["loop.update=1,2"], "did you mean 'loop.updates'"),
        (["job=2"], "did you mean 'jobs'"),
        (["preset=smok"], "unknown preset 'smok': did you mean 'smoke'"),
        (["jobs=1,2"], "jobs holds for all runs: give it one value"),
        (["jobs=0"], "at least one run at a time"),
        (["run=runs/x"], "leave out run="),
        (["seed=1,two"], "seed=two: expected"),
        (["launcher=slurm"], "expected one of local, submitit"),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert said in fail(capsys, *arguments, f"folder={tmp_path / 'sweep'}")
    assert not (tmp_path / "sweep").exists()


def test_a_folder_is_read_back_whatever_its_name() -> None:
    for path in ("runs/a-b_1.5", "/a folder/it's, (x) = [y]\\z"):
        assert cli.compose(TrainConfig, GROUPS, [cli.assigned("run", path)]).run == path


# ---- what happens to a run ----


def test_a_run_of_another_config_is_not_touched(tmp_path: Path) -> None:
    (run,) = planned_runs(tmp_path, "preset=smoke")
    run.announce()
    (again,) = planned_runs(tmp_path, "preset=smoke", "loop.updates=99")  # only planned: free to change
    again.announce()
    (run.folder / "metrics.jsonl").touch()
    with pytest.raises(FileExistsError, match=r"loop.updates=99 there and 60 here.*overwrite=true"):
        planned_runs(tmp_path, "preset=smoke")
    assert not planned_runs(tmp_path, "preset=smoke", "loop.updates=99", overwrite=True)[0].stale
    (replaced,) = planned_runs(tmp_path, "preset=smoke", overwrite=True)
    replaced.announce()
    assert not (run.folder / "metrics.jsonl").exists()
    assert "updates: 60" in (run.folder / "config.yaml").read_text()


def test_a_cell_starts_or_goes_on(tmp_path: Path) -> None:
    (run,) = planned_runs(tmp_path, "preset=smoke", "seed=4")
    assert run.command() == ["seed=4", "preset=smoke", f"run={run.folder}", "overwrite=true"]
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints" / "last.pt").touch()
    assert run.command() == [f"resume={run.folder}"]
    assert not run.finished()
    (run.folder / "summary.json").write_text('{"eval_return_mean": 1.0')  # cut off
    assert not run.finished()
    (run.folder / "summary.json").write_text('{"eval_return_mean": 1.0}')
    assert run.finished()


STAND_IN = """
import json, os, sys, time
from pathlib import Path

folder = Path(next(one for one in sys.argv if one.startswith("run=")).removeprefix("run="))
(folder / "threads").write_text(os.environ["OMP_NUM_THREADS"])
if folder.name == "broken":
    sys.exit("progress 1%\\rerror: no camera here")
time.sleep(30 if folder.name == "slow" else 0)
(folder / "summary.json").write_text(json.dumps({"eval_return_mean": 1.0}))
"""


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, SweepRun]:
    """SweepRuns whose process is a script of a few lines: one is slow, one fails, two do well."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(launch, "_TRAIN", tmp_path / "stand_in.py")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = {}
    for name in ("slow", "broken", "good", "better"):
        folder = tmp_path / "sweep" / name
        made[name] = SweepRun(folder, replace(TrainConfig(), run=str(folder)), ())
        made[name].announce()
    return made


def test_a_cell_that_fails_does_not_stop_the_others(stand_ins: dict[str, SweepRun]) -> None:
    ended = []
    launch.run_here([stand_ins[name] for name in ("broken", "good", "better")], 2, ended.append)
    assert {run.folder.name for run in ended} == {"broken", "good", "better"}
    assert [stand_ins[name].finished() for name in ("broken", "good", "better")] == [False, True, True]
    broken = stand_ins["broken"]
    assert broken.failure.read_text() == f"no camera here ({broken.log})\n"
    assert not stand_ins["good"].failure.exists()
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert (stand_ins["good"].folder / "threads").read_text() == str(share)


@pytest.mark.parametrize(("told", "threads"), [({"OMP_NUM_THREADS": "1"}, "1"), ({}, None)])
def test_threads_that_the_user_chose_are_kept(monkeypatch: pytest.MonkeyPatch, told: dict, threads: str | None) -> None:
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k} | told)
    count = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    ran = subprocess.run(count, env=launch._environment("cpu", 0, 1), capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == (threads or str(len(os.sched_getaffinity(0))))


def test_whatever_interrupts_a_grid_stops_its_processes(stand_ins: dict[str, SweepRun]) -> None:
    def interrupt(run: SweepRun) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        launch.run_here([stand_ins["slow"], stand_ins["good"]], 2, interrupt)
    assert time.monotonic() - start < 15
    lock = stand_ins["slow"].lock()  # held for as long as its process lives
    assert lock is not None
    lock.close()
    assert not stand_ins["slow"].finished() and not stand_ins["slow"].failure.exists()


def test_a_cell_at_work_elsewhere_is_waited_for(stand_ins: dict[str, SweepRun]) -> None:
    good = stand_ins["good"]
    log = good.lock()
    assert log is not None and good.lock() is None
    finish = f"import time; time.sleep(1); open({str(good.folder / 'summary.json')!r}, 'w').write({SUMMARY!r})"
    with log:
        other = subprocess.Popen([sys.executable, "-c", finish], stdout=log)
    launch.run_here([good], 1, lambda run: None)
    assert other.wait() == 0 and good.finished()
    assert not (good.folder / "threads").exists()  # nobody started it a second time


SUMMARY = '{"eval_return_mean": 1.0}'


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its logs open
def test_jobs_of_a_cluster(stand_ins: dict[str, SweepRun], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = ClusterConfig(name="debug")  # submitit's executor that runs in this process
    run_on_cluster([stand_ins["broken"], stand_ins["good"]], 2, cluster, ended.append)
    assert [run.folder.name for run in ended] == ["broken", "good"]
    assert stand_ins["good"].finished() and "no camera here" in stand_ins["broken"].failure.read_text()


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # submitit does not wait for it
def test_a_job_that_never_starts_its_cell(stand_ins: dict[str, SweepRun], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins["good"].log.parent.mkdir(parents=True, exist_ok=True)
    stand_ins["good"].log.mkdir()  # in the way of the log
    cluster = ClusterConfig(name="local")  # submitit's executor that starts each job as a process of its own
    run_on_cluster([stand_ins["good"]], 1, cluster, lambda run: None)
    assert "IsADirectoryError" in stand_ins["good"].failure.read_text()


def test_jobs_on_gpus_are_sent_from_where_there_is_none(call_script, capsys, tmp_path: Path) -> None:
    sweep = ("task=walker-walk", "encoder=vjepa", "device=cuda", f"folder={tmp_path / 'sweep'}")
    if not torch.cuda.is_available():
        assert call_script("ablate", *sweep) == 2
        assert "no CUDA device is there" in capsys.readouterr().err
    assert call_script("ablate", *sweep, "launcher=submitit") == 2
    assert "cluster.gpus_per_node=1" in capsys.readouterr().err
    pytest.importorskip("submitit")
    check_cluster(ClusterConfig(gpus_per_node=1), "cuda")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)  # what an import finds when it is not installed
    said = fail(capsys, "launcher=submitit", f"folder={tmp_path / 'sweep'}")
    assert "launcher=submitit needs submitit" in said and "[cluster]" in said
    assert not (tmp_path / "sweep").exists()


# ---- a real sweep ----


@pytest.mark.timeout(900)
def test_a_killed_grid_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, out = tmp_path / "sweep", tmp_path / "rows.json"
    arguments = [*TINY, "encoder=cnn", f"folder={folder}", f"out={out}"]
    run = folder / "cartpole-swingup-cnn-mpc-1"
    ended = threading.Event()

    def interrupt() -> None:
        """Presses Ctrl-C once the run trains its agent, which something else makes a SIGTERM of besides."""
        while not ended.wait(0.02):
            if (run / "checkpoints" / "last.pt").exists() and '"train"' in (run / "metrics.jsonl").read_text():
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    someone = threading.Thread(target=interrupt)
    someone.start()
    try:
        with pytest.raises(SystemExit) as leaving:
            ablate.main(arguments)
    finally:
        ended.set()
        someone.join()
    assert leaving.value.code == 130
    assert "goes on from the last checkpoints" in capsys.readouterr().out
    assert not (run / "summary.json").exists()
    assert "0 of 1 runs done · 1 unfinished" in (folder / "ablation.html").read_text()
    assert "Interrupted. Continue with" in (folder / "logs" / f"{run.name}.txt").read_text()

    ablate.main(arguments)
    assert "1 of 1 runs are done" in capsys.readouterr().out
    assert "Resumed at" in (folder / "logs" / f"{run.name}.txt").read_text()
    (row,) = [row for row in json.loads(out.read_text()) if row["level"] == "run"]
    # 50 frames in 2 worlds for each of 30 decisions of noise, and for 2 beside each update.
    assert row["encoder"] == "cnn" and row["updates"] == 40 and row["env_frames"] == 50 * 2 * (30 + 2 * 40)
    assert "1 of 1 runs done" in (folder / "ablation.html").read_text()

    finished, written = (run / "summary.json").stat().st_mtime_ns, out.read_text()
    ablate.main(arguments)  # nothing is left to do
    assert (run / "summary.json").stat().st_mtime_ns == finished
    out.unlink()
    ablate.main([f"report={folder}", f"out={out}"])
    assert out.read_text() == written
