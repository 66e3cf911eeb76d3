"""The command line: composing, help, errors, and config.yaml there and back."""

import os
import subprocess
import sys
import textwrap
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from mindreel import cli
from mindreel.cli import schema
from mindreel.devices import check_device


@dataclass(frozen=True)
class Inner:
    depth: int = 3
    """Number of blocks."""
    sizes: tuple[int, ...] = (8, 16)
    """Width of each block."""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth is at least 1, got {self.depth}")


@dataclass(frozen=True)
class Video:
    """Sees clips."""

    body: Inner = Inner()
    rate: float = 1e-3
    """Learning rate,
    per step."""
    mode: Literal["fast", "slow"] = "fast"


@dataclass(frozen=True)
class Blind:
    width: int = 4


@dataclass(frozen=True)
class Config:
    task: str = "cartpole-swingup"
    """Task to learn."""
    seed: int = 1
    pair: tuple[float, str] = (0.5, "a")
    folder: Path = Path("runs")
    flag: bool = False
    out: str | None = None
    resume: str | None = None
    encoder: Any = Video(rate=2e-3)
    """What sees."""


@dataclass(frozen=True)
class Needy:
    run: str
    """Run folder to read."""


GROUPS = {"encoder": {"video": Video, "blind": Blind}}


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    folder = tmp_path / "preset"
    folder.mkdir()
    (folder / "small.yaml").write_text(
        "# Small sizes,\n# for tests.\n"
        "seed: 5\ntask: walker-walk\n"
        "encoder: {name: video, rate: 1e-4, body: {depth: 2}}\n"
        "encoder/blind: {width: 9}\n"
    )
    (folder / "blind.yaml").write_text("encoder: {name: blind, width: 7}\n")
    return folder


def compose(*overrides: str, presets: Path = Path("none"), base: str | None = None) -> Config:
    return cli.compose(Config, GROUPS, overrides, presets=presets, base=base)


def message(*overrides: str, **given: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        compose(*overrides, **given)
    return str(caught.value)


def test_defaults_are_the_dataclass_own() -> None:
    assert compose() == Config()


def test_overrides_reach_every_depth_and_type() -> None:
    config = compose(
        "task=reacher-hard",
        "seed=1e3",
        "pair=[2,b]",
        "folder=a/b",
        "flag=true",
        "out=x-${task}.json",
        "encoder.body.sizes=[1,2,3]",
        "encoder.rate=1",
    )
    assert config == Config(
        task="reacher-hard",
        seed=1000,
        pair=(2.0, "b"),
        folder=Path("a/b"),
        flag=True,
        out="x-reacher-hard.json",
        encoder=Video(body=Inner(sizes=(1, 2, 3)), rate=1.0),
    )
    assert isinstance(config.seed, int) and isinstance(config.encoder.rate, float)
    with pytest.raises(FrozenInstanceError):
        config.seed = 2  # type: ignore[misc]


def test_numbers_are_text_where_text_is_wanted() -> None:
    assert compose("task=007", "out=12").task == "007"
    assert compose("out=12").out == "12"


def test_a_group_choice_selects_its_dataclass() -> None:
    assert compose("encoder=blind", "encoder.width=5").encoder == Blind(5)
    assert compose("encoder.width=5", "encoder=blind").encoder == Blind(5)
    assert compose("encoder.name=blind").encoder == Blind()
    # The script's own values belong to its default choice, however it is chosen.
    assert compose("encoder=video").encoder == Video(rate=2e-3)


def test_the_last_of_a_repeated_key_counts() -> None:
    assert compose("seed=3", "encoder=blind", "encoder=video", "seed=4") == Config(seed=4)


def test_a_preset_lies_between_defaults_and_command_line(presets: Path) -> None:
    config = compose("seed=9", "preset=small", "encoder.body.depth=7", presets=presets)
    assert (config.task, config.seed) == ("walker-walk", 9)
    assert config.encoder == Video(body=Inner(depth=7), rate=1e-4)
    assert compose("preset=blind", presets=presets).encoder == Blind(7)


def test_a_preset_names_no_run_to_read(tmp_path: Path) -> None:
    (tmp_path / "written.yaml").write_text("resume: runs/written\nseed: 5\n")
    config = compose("preset=written", presets=tmp_path, base="resume")
    assert config.resume is None and config.seed == 5
    assert compose("preset=written", presets=tmp_path).resume == "runs/written"


def test_a_preset_holds_for_the_choice_it_was_written_for(presets: Path) -> None:
    assert compose("preset=small", "encoder=blind", presets=presets).encoder == Blind(9)
    assert compose("preset=blind", "encoder=video", presets=presets).encoder == Video(rate=2e-3)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["sede=3"], ["unknown field 'sede'", "'seed'"]),
        (["encoder.body.dept=3"], ["'encoder.body.dept'", "encoder=video", "'encoder.body.depth'"]),
        (["depth=3"], ["'encoder.body.depth'"]),
        (["zzz=3"], ["'zzz'", "valid are", "task", "seed"]),
        (["encoder=blind", "encoder.rate=1"], ["'encoder.rate'", "encoder=blind", "encoder.width"]),
        (["encoder=vidoe"], ["unknown encoder 'vidoe'", "'video'", "video|blind"]),
        (["preset=smal"], ["unknown preset 'smal'", "'small'"]),
        (["seed=three"], ["seed", "expected int", "'three'"]),
        (["seed=1.5"], ["seed", "expected int", "1.5"]),
        (["seed=null"], ["seed", "expected int"]),
        (["seed=true"], ["seed", "expected int", "True"]),
        (["flag=1"], ["flag", "expected bool", "1"]),
        (["out=1.5"], ["out", "expected text or null", "quote"]),
        (["pair=[1]"], ["pair", "2 values", "got 1"]),
        (["encoder.body.sizes=3"], ["encoder.body.sizes", "list of int", "[a,b,...]"]),
        (["encoder.body.sizes=[1,x]"], ["encoder.body.sizes[1]", "expected int", "'x'"]),
        (["encoder.body=3"], ["encoder.body", "Inner"]),
        (["encoder.body.depth=0"], ["encoder.body: depth is at least 1, got 0"]),
        (["encoder.mode=fats"], ["encoder.mode", "one of fast, slow", "'fast'"]),
        (["task"], ["'task'", "field=value"]),
        (["--task=walker"], ["field=value", "task=value"]),
        (["task=a,b"], ["one value"]),
        (["task=(a"], ["quote"]),
        (["out=${sed}"], ["sed"]),
    ],
)
def test_mistakes_are_named(overrides: list[str], said: list[str], presets: Path) -> None:
    text = message(*overrides, presets=presets)
    assert all(part in text for part in said), text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("sede: 3", ["'sede'", "'seed'"]),
        ("encoder: {name: vidoe}", ["'vidoe'", "'video'"]),
        ("encoder: video", ["encoder", "name: ..."]),
        ("encoder/blnd: {width: 2}", ["'blnd'", "'blind'"]),
        ("encoder: {body: {dept: 3}}", ["'encoder.body.dept'", "'encoder.body.depth'"]),
        ("seed: [", ["not a readable config"]),
        ("", ["not a readable config"]),
        ("- 1", ["not a readable config"]),
    ],
)
def test_mistakes_in_a_file_are_named_with_it(written: str, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(written)
    text = message("preset=mine", presets=tmp_path)
    assert all(part in text for part in said), text


def test_a_required_field_is_asked_for() -> None:
    with pytest.raises(ValueError, match="run has no default: give run="):
        cli.compose(Needy, {}, [])
    assert cli.compose(Needy, {}, ["run=a"]) == Needy("a")


def test_a_config_comes_back_equal(tmp_path: Path) -> None:
    config = compose("encoder.body.sizes=[4]", "encoder.rate=1e-5", "folder=x/y", "pair=[1,'2']", "seed=8")
    cli.save(config, GROUPS, tmp_path / "config.yaml")
    assert cli.load(tmp_path / "config.yaml", Config, GROUPS) == config
    assert cli.load(tmp_path, Config, GROUPS) == config
    blind = compose("encoder=blind")
    cli.save(blind, GROUPS, tmp_path / "config.yaml")
    assert "name: blind" in (tmp_path / "config.yaml").read_text()
    assert cli.load(tmp_path, Config, GROUPS) == blind
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_what_belongs_to_the_call_is_left_out(tmp_path: Path) -> None:
    cli.save(compose("flag=true", "seed=8"), GROUPS, tmp_path / "config.yaml", leave_out=["flag"])
    assert cli.load(tmp_path, Config, GROUPS) == Config(seed=8)


def test_a_saved_run_lies_under_the_command_line(tmp_path: Path, presets: Path) -> None:
    run = tmp_path / "demo"
    run.mkdir()
    cli.save(compose("seed=8", "encoder.rate=3", "task=a"), GROUPS, run / "config.yaml")
    config = compose(f"resume={run}", "task=b", base="resume")
    assert config == Config(task="b", seed=8, resume=str(run), encoder=Video(rate=3.0))
    # Another choice has its defaults: the saved values were for the one that was saved.
    assert compose(f"resume={run}", "encoder=blind", base="resume").encoder == Blind()
    assert cli.load(run, Config, GROUPS, ["task=b"]) == Config(task="b", seed=8, encoder=Video(rate=3.0))
    said = message(f"resume={run}", "preset=small", base="resume", presets=presets)
    assert "leave out preset=small" in said


def test_a_missing_run_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.yaml").write_text("seed: 1\n")
    said = message(f"resume={tmp_path / 'dmeo'}", base="resume")
    assert "config.yaml is missing" in said and str(tmp_path / "demo") in said


def test_a_run_of_another_script_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("speed: 1\n")
    said = message(f"resume={tmp_path}", base="resume")
    assert str(tmp_path / "config.yaml") in said and "'speed'" in said and "'seed'" in said


def test_one_class_has_one_name() -> None:
    with pytest.raises(AssertionError, match="two names"):
        cli.compose(Config, {"encoder": {"video": Video, "other": Video}}, [])


def test_devices() -> None:
    import torch

    assert check_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="expected cpu, cuda or cuda:N"):
        check_device("gpu")
    with pytest.raises(ValueError, match="expected cpu, cuda or cuda:N"):
        check_device("mps")
    if torch.cuda.is_available():
        assert check_device("cuda") == torch.device("cuda", 0)
        with pytest.raises(ValueError, match="only"):
            check_device("cuda:99")
    else:
        with pytest.raises(ValueError, match="no CUDA device is there.*use device=cpu"):
            check_device("cuda")


def test_sentences_are_inherited() -> None:
    @dataclass(frozen=True)
    class Child(Inner):
        more: int = 1
        """Its own."""

    assert schema.sentences(Child) == {
        "depth": "Number of blocks.",
        "sizes": "Width of each block.",
        "more": "Its own.",
    }


SCRIPT = '''
"""Trains nothing at all."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindreel import cli


@dataclass(frozen=True)
class Small:
    """A small one."""

    size: int = 2
    """How small."""


@dataclass(frozen=True)
class Config:
    task: str = "cartpole"
    """Task to learn."""
    encoder: Any = Small()
    """What sees."""


def run(config: Config) -> None:
    if config.task == "interrupt":
        raise KeyboardInterrupt
    if config.task == "there":
        raise FileExistsError("runs/x is there: give overwrite=true")
    if config.task == "bug":
        raise RuntimeError("a bug")
    print(config)


if __name__ == "__main__":
    cli.main(run, Config, {"encoder": {"small": Small}}, presets=Path(__file__).parent)
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "learn.py").write_text(textwrap.dedent(SCRIPT).lstrip())
    (tmp_path / "tiny.yaml").write_text("# As small as can be.\nencoder: {size: 1}\n")
    return tmp_path / "learn.py"


def call(script: Path, *arguments: str, debug: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(cli.__file__).parent),
        "MINDREEL_DEBUG": debug,
        "COLUMNS": "100",
    }
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment, timeout=60
    )


def test_a_script_runs_with_its_config(script: Path) -> None:
    done = call(script, "preset=tiny", "task=walker")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Config(task='walker', encoder=Small(size=1))\n"


def test_help_lists_everything_and_starts_nothing(script: Path) -> None:
    done = call(script, "task=interrupt", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "Trains nothing at all.",
        "preset=tiny         As small as can be.",
        "encoder=small",
        "task  (text, default cartpole)",
        "      Task to learn.",
        "encoder=small: A small one.",
        "encoder.size  (int, default 2)",
        "      How small.",
    ):
        assert line in done.stdout, done.stdout


def test_config_is_printed_without_a_run(script: Path) -> None:
    done = call(script, "task=interrupt", "--config")
    assert done.stdout == "task: interrupt\nencoder:\n  name: small\n  size: 2\n"


@pytest.mark.parametrize(
    ("task", "code", "said"),
    [
        ("task=interrupt", 130, "interrupted"),
        ("task=there", 2, "error: runs/x is there: give overwrite=true (MINDREEL_DEBUG=1 shows where)"),
        ("tusk=a", 2, "error: unknown field 'tusk': did you mean 'task'?"),
    ],
)
def test_errors_are_one_line(script: Path, task: str, code: int, said: str) -> None:
    done = call(script, task)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (code, said, "")


def test_tracebacks_are_for_bugs_and_for_those_who_ask(script: Path) -> None:
    assert "Traceback" in call(script, "task=bug").stderr
    asked = call(script, "task=there", debug="1")
    assert asked.returncode == 2 and "Traceback" in asked.stderr
