"""The command line: composing, help, errors, and config.yaml there and back."""

import os
import subprocess
import sys
import textwrap
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Lt
from pydantic import Field

from mindreel import cli as settings
from mindreel.cli import assigned, walk
from mindreel.sweep.arguments import spread


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
    folder: str = "runs"
    flag: bool = False
    out: str | None = None
    resume: str | None = None
    views: tuple[int | str, ...] = ()
    second: Inner = Inner()
    encoder: Any = Video(rate=2e-3)
    """What sees."""


@dataclass(frozen=True)
class Wide:
    field_0: int = 0
    """A long sentence about what it is. A long sentence about what it is. A long sentence about what it is."""
    field_1: int = 1
    """A long sentence about what it is. A long sentence about what it is. A long sentence about what it is."""
    encoder: Any = Video()


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


def compose(*overrides: str, presets: Path = Path("none"), base: str = "") -> Config:
    return settings.compose(Config, GROUPS, overrides, presets=presets, base=base)


def message(*overrides: str, **given: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        compose(*overrides, **given)
    return str(caught.value)


def test_defaults_are_the_dataclass_own() -> None:
    assert compose() == Config()


def test_overrides_reach_every_depth_and_type() -> None:
    config = compose(
        "task=reacher-hard",
        "seed=1_000",
        "pair=[2,b]",
        "folder=a/b",
        "flag=true",
        "out=x-${task}.json",
        "views=[0,side]",
        "second.depth=4",
        "encoder.body.sizes=[1,2,3]",
        "encoder.rate=1",
    )
    assert config == Config(
        task="reacher-hard",
        seed=1000,
        pair=(2.0, "b"),
        folder="a/b",
        flag=True,
        out="x-${task}.json",
        views=(0, "side"),
        second=Inner(depth=4),
        encoder=Video(body=Inner(sizes=(1, 2, 3)), rate=1.0),
    )
    assert isinstance(config.seed, int) and isinstance(config.encoder.rate, float)
    with pytest.raises(FrozenInstanceError):
        config.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", ["007", "12", "1.50", "1e3", "1_0", "-3", "12:30", "2024-01-01", "no", "on", "a b", "#1", ""]
)
def test_text_stays_as_it_is_written(text: str) -> None:
    config = compose(f"task={text}", f"out={text}", f"folder={text}")
    assert (config.task, config.out, config.folder) == (text, text, text)


def test_text_stays_as_it_is_written_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: 007\nout: no\nfolder: 12:30\npair: [1e-3, 2024-01-01]\nflag: TRUE\n")
    config = compose("preset=mine", presets=tmp_path)
    assert (config.task, config.out, config.folder) == ("007", "no", "12:30")
    assert config.pair == (1e-3, "2024-01-01") and config.flag is True


def test_flags_are_switched_in_many_words() -> None:
    assert all(compose(f"flag={text}").flag for text in ("true", "TRUE", "1", "yes", "on"))
    assert not any(compose("flag=true", f"flag={text}").flag for text in ("false", "0", "no", "off"))


def test_null_is_nothing_and_quoted_it_is_text() -> None:
    assert compose("out=a", "out=null").out is None
    assert compose("out='null'").out == "null" and compose('out="[a,b]"').out == "[a,b]"


def test_a_group_choice_selects_its_dataclass() -> None:
    assert compose("encoder=blind", "encoder.width=5").encoder == Blind(5)
    assert compose("encoder.width=5", "encoder=blind").encoder == Blind(5)
    assert compose("encoder.name=blind").encoder == Blind()
    # The script's own values belong to its default choice, however it is chosen.
    assert compose("encoder=video").encoder == Video(rate=2e-3)


def test_the_last_of_a_repeated_key_counts() -> None:
    assert compose("seed=3", "encoder=blind", "encoder=video", "seed=4") == Config(seed=4)
    mapping = ("encoder.body={depth: 4}", "encoder.body.depth=5")
    assert compose(*mapping).encoder.body.depth == compose("encoder.body.depth=2", *mapping).encoder.body.depth == 5
    assert compose(*reversed(mapping)).encoder.body.depth == 4


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
        (["encoder.body.dept=3"], ["'encoder.body.dept'", "'encoder.body.depth'"]),
        (["depth=3"], ["'encoder.body.depth'"]),
        (["zzz=3"], ["'zzz'", "valid are", "task", "seed"]),
        (["encoder=blind", "encoder.rate=1"], ["'encoder.rate'", "encoder.width"]),
        (["encoder=vidoe"], ["unknown encoder 'vidoe'", "'video'"]),
        (["encoder=3"], ["unknown encoder '3'"]),
        (["preset=3"], ["unknown preset '3'"]),
        (["encoder.body=3", "encoder=zzz"], ["unknown encoder 'zzz'", "valid are: blind, video"]),
        (["preset=smal"], ["unknown preset 'smal'", "'small'"]),
        (["seed=three"], ["seed=three: expected an integer"]),
        (["seed=1.5"], ["seed=1.5: expected an integer"]),
        (["seed=null"], ["seed=null: expected an integer"]),
        (["seed=true"], ["seed=true: expected an integer"]),
        (["seed=1e3"], ["seed=1e3: expected an integer"]),
        (["seed=1,2"], ['seed="1,2": expected an integer']),
        (["flag=2"], ["flag=2: expected true or false"]),
        (["flag=maybe"], ["flag=maybe: expected true or false"]),
        (["out=[1]"], ["out=[1]: expected text or null"]),
        (["pair=[1]"], ["pair=[1]: expected a list"]),
        (["encoder.body.sizes=3"], ["encoder.body.sizes=3: expected a list [a,b,...], each an integer"]),
        (["encoder.body.sizes=[1,x]"], ['encoder.body.sizes=[1, "x"]', "each an integer"]),
        (["views=[[1]]"], ["views=[[1]]", "each an integer or text"]),
        (["encoder.body=3"], ["encoder.body=3: expected fields"]),
        (["encoder.body.depth=0"], ["encoder.body: depth is at least 1, got 0"]),
        (["second.depth=0"], ["second: depth is at least 1, got 0"]),
        (["encoder.mode=fats"], ["encoder.mode=fats: expected one of fast, slow"]),
        (["encoder.rate=.nan"], ["encoder.rate=.nan: expected a number"]),
        (["encoder.rate=nan"], ["encoder.rate=nan: expected a number"]),
        (["encoder.rate=1e999"], ["encoder.rate=1e999: expected a number"]),
        (["seed=.nan"], ["seed=.nan: expected an integer"]),
        (["task"], ["'task'", "field=value"]),
        (["--task=walker"], ["field=value", "task=value"]),
        (["task=[a"], ["[a cannot be read", "quotes close"]),
        (["task='a"], ["'a cannot be read", "quotes close"]),
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
        ("encoder: vidoe", ["unknown encoder 'vidoe'"]),
        ("encoder: [1]", ["unknown encoder '[1]'"]),
        ("encoder/blnd: {width: 2}", ["unknown field 'encoder/blnd'"]),
        ("encoder: {body: {dept: 3}}", ["'encoder.body.dept'", "'encoder.body.depth'"]),
        ("seed: three", ["mine.yaml: seed=three: expected an integer"]),
        ("encoder: {body: {depth: 0}}", ["mine.yaml: encoder.body: depth is at least 1"]),
        ("seed: [", ["not a readable config"]),
        ("", ["not a readable config"]),
        ("- 1", ["not a readable config"]),
    ],
)
def test_mistakes_in_a_file_are_named_with_it(written: str, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(written)
    text = message("preset=mine", presets=tmp_path)
    assert all(part in text for part in [*said, str(tmp_path / "mine.yaml")]), text
    assert "\n" not in text


def test_a_mistake_of_the_command_line_is_not_blamed_on_the_file(presets: Path) -> None:
    assert message("preset=small", "seed=three", presets=presets).startswith("seed=three")
    assert message("preset=small", "encoder.body={depth: x}", presets=presets).startswith("encoder.body.depth=x")


def test_a_config_comes_back_equal(tmp_path: Path) -> None:
    config = compose(
        "encoder.body.sizes=[4]", "encoder.rate=1e-5", "folder=x/y", "pair=[1.5,'b']", "seed=8", "out='1e-3'"
    )
    settings.save(config, GROUPS, tmp_path / "config.yaml")
    assert settings.load(tmp_path / "config.yaml", Config, GROUPS) == config
    assert settings.load(tmp_path, Config, GROUPS) == config
    blind = compose("encoder=blind")
    settings.save(blind, GROUPS, tmp_path / "config.yaml")
    assert "name: blind" in (tmp_path / "config.yaml").read_text()
    assert settings.load(tmp_path, Config, GROUPS) == blind
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_what_belongs_to_the_call_is_left_out(tmp_path: Path) -> None:
    settings.save(compose("flag=true", "seed=8"), GROUPS, tmp_path / "config.yaml", leave_out=["flag"])
    assert settings.load(tmp_path, Config, GROUPS) == Config(seed=8)


def test_a_saved_run_lies_under_the_command_line(tmp_path: Path, presets: Path) -> None:
    run = tmp_path / "demo"
    run.mkdir()
    settings.save(compose("seed=8", "encoder.rate=3", "task=a"), GROUPS, run / "config.yaml")
    config = compose(f"resume={run}", "task=b", base="resume")
    assert config == Config(task="b", seed=8, resume=str(run), encoder=Video(rate=3.0))
    # Another choice has its defaults: the saved values were for the one that was saved.
    assert compose(f"resume={run}", "encoder=blind", base="resume").encoder == Blind()
    said = message(f"resume={run}", "preset=small", base="resume", presets=presets)
    assert "leave out preset=small" in said


def test_a_config_may_refuse_a_saved_run(tmp_path: Path) -> None:
    class Choosy(Config):
        @classmethod
        def check_saved(cls, values: dict[str, Any], file: Path) -> None:
            raise ValueError(f"{file}: made of {values['data']}")

    (tmp_path / "config.yaml").write_text("data: x\n")
    with pytest.raises(ValueError, match="config.yaml: made of x$"):
        settings.compose(Choosy, GROUPS, [f"resume={tmp_path}"], base="resume")


def test_a_missing_run_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.yaml").write_text("seed: 1\n")
    said = message(f"resume={tmp_path / 'dmeo'}", base="resume")
    assert "config.yaml is missing" in said and f"{tmp_path}, did you mean 'demo'?" in said


def test_a_run_of_another_script_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("speed: 1\n")
    said = message(f"resume={tmp_path}", base="resume")
    assert str(tmp_path / "config.yaml") in said and "'speed'" in said and "'seed'" in said


def test_sentences_are_inherited() -> None:
    @dataclass(frozen=True)
    class Child(Inner):
        more: int = 1
        """Its own."""

    assert {name: schema["description"] for name, _, schema in walk(Child())} == {
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

from mindreel import cli as settings


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
    if config.task == "folder":
        open(".")
    if config.task == "bug":
        raise RuntimeError("a bug")
    print(config)


if __name__ == "__main__":
    settings.main(run, Config, {"encoder": {"small": Small}}, presets=Path(__file__).parent)
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "learn.py").write_text(textwrap.dedent(SCRIPT).lstrip())
    (tmp_path / "tiny.yaml").write_text("# As small as can be.\nencoder: {size: 1}\n")
    return tmp_path / "learn.py"


def call(script: Path, *arguments: str, debug: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(settings.__file__).parents[2]),
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


def test_help_starts_nothing(script: Path) -> None:
    done = call(script, "task=interrupt", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "Trains nothing at all.",
        "usage: python ",
        "  preset=tiny                As small as can be.",
        "  encoder=small",
        "  task=cartpole  (text)  Task to learn.",
    ):
        assert line in done.stdout, done.stdout
    assert "How small" not in done.stdout
    for name in ("encoder", "encoder=small", "encoder.size", "all"):
        done = call(script, "--help", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert "encoder=small\n  encoder.size=2  (an integer)  How small." in done.stdout
        assert ("Task to learn." in done.stdout) == (name == "all")
    done = call(script, "--help", "encodr")
    assert (done.returncode, done.stdout) == (2, "") and "did you mean 'encoder'" in done.stderr


def test_config_is_printed_without_a_run(script: Path) -> None:
    done = call(script, "task=interrupt", "--config")
    assert done.stdout == "task: interrupt\nencoder:\n  name: small\n  size: 2\n"


@pytest.mark.parametrize(
    ("task", "code", "said"),
    [
        ("task=interrupt", 130, "interrupted"),
        ("task=there", 2, "error: runs/x is there: give overwrite=true (MINDREEL_DEBUG=1 shows where)"),
        ("tusk=a", 2, "error: unknown field 'tusk': did you mean 'task'?"),
        ("task=folder", 2, "error: [Errno 21] Is a directory: '.' (MINDREEL_DEBUG=1 shows where)"),
    ],
)
def test_errors_are_one_line(script: Path, task: str, code: int, said: str) -> None:
    done = call(script, task)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (code, said, "")


def test_tracebacks_are_for_bugs_and_for_those_who_ask(script: Path) -> None:
    assert "Traceback" in call(script, "task=bug").stderr
    asked = call(script, "task=there", debug="1")
    assert asked.returncode == 2 and "Traceback" in asked.stderr


# ---- ranges ----


@dataclass(frozen=True)
class Part:
    share: Annotated[float, Ge(0), Lt(1)] = 0.5
    limit: Annotated[float, Gt(0)] | None = None


@dataclass(frozen=True)
class Ranged:
    steps: Annotated[int, Ge(0)] = 600
    """Gradient steps."""
    seed: Annotated[int, Interval(ge=-(2**63), lt=2**64)] = 1
    width: Annotated[int, Field(gt=3, le=9)] | None = None
    sizes: Annotated[tuple[Annotated[int, Ge(1)], ...], Field(min_length=1)] = (1,)
    name: Annotated[str, Field(min_length=2)] = "ab"
    part: Part = Part()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("steps=0", Ranged(steps=0)),
        ("seed=18446744073709551615", Ranged(seed=2**64 - 1)),
        (f"seed={-(2**63)}", Ranged(seed=-(2**63))),
        ("width=4", Ranged(width=4)),
        ("width=null", Ranged()),
        ("sizes=[1,2.0]", Ranged(sizes=(1, 2))),
        ("name=12", Ranged(name="12")),
        ("part.share=0", Ranged(part=Part(share=0.0))),
        ("part.limit=1e-300", Ranged(part=Part(limit=1e-300))),
    ],
)
def test_values_in_range_are_taken(argument: str, expected: Ranged, tmp_path: Path) -> None:
    config = settings.compose(Ranged, {}, [argument])
    assert config == expected
    settings.save(config, {}, tmp_path / "config.yaml")
    assert settings.load(tmp_path, Ranged, {}) == expected


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("steps=-3", "steps=-3: expected an integer (at least 0)"),
        ("seed=18446744073709551616", "an integer (at least -9223372036854775808, below 18446744073709551616)"),
        ("width=3", "width=3: expected an integer (above 3, at most 9) or null"),
        ("width=10", "an integer (above 3, at most 9) or null"),
        ("sizes=[]", "sizes=[]: expected a list [a,b,...], each an integer (at least 1) (length at least 1)"),
        ("sizes=[1,0]", "sizes=[1, 0]: expected a list [a,b,...], each an integer (at least 1)"),
        ("name=a", "name=a: expected text (length at least 2)"),
        ("part.share=1", "part.share=1: expected a number (at least 0, below 1)"),
        ("part.share=.nan", "part.share=.nan: expected a number (at least 0, below 1)"),
        ("part.limit=-inf", "part.limit=-inf: expected a number (above 0) or null"),
    ],
)
def test_values_out_of_range_are_refused(argument: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        settings.compose(Ranged, {}, [argument])
    assert said in str(caught.value)


# ---- help ----


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mindreel learn"])


def run_nothing(config: Any) -> None:
    raise AssertionError(config)


def help_of(capsys: pytest.CaptureFixture, cls: type, groups: Any, *arguments: str) -> list[str]:
    settings.main(run_nothing, cls, groups, argv=["--help", *arguments], presets=Path("none"))
    return capsys.readouterr().out.splitlines()


def test_help_says_type_range_and_default(capsys: pytest.CaptureFixture) -> None:
    assert help_of(capsys, Ranged, {}, "steps") == ["  steps=600  (an integer (at least 0))  Gradient steps."]
    assert help_of(capsys, Ranged, {}, "part") == [
        "  part.share=0.5  (a number (at least 0, below 1))",
        "  part.limit=null  (a number (above 0) or null)",
    ]
    assert "Sections: part" in help_of(capsys, Ranged, {})


def test_help_shows_what_a_command_starts_from(capsys: pytest.CaptureFixture) -> None:
    shown = help_of(capsys, Config, GROUPS, "encoder")
    assert "  encoder.rate=0.002  (a number)  Learning rate, per step." in shown
    assert "  encoder.width=4  (an integer)" in shown
    narrow = help_of(capsys, Config, GROUPS, "encoder=blind")
    assert "  encoder.width=4  (an integer)" in narrow and len(narrow) < len(shown)
    assert help_of(capsys, Config, GROUPS, "encoder.body.sizes")[-1].endswith("  Width of each block.")


def test_help_is_a_page_however_much_there_is(capsys: pytest.CaptureFixture) -> None:
    choices = {"video": Video} | {f"choice_{index}": type(f"C{index}", (), {}) for index in range(40)}
    lines = help_of(capsys, Wide, {"encoder": choices})
    assert len(lines) <= 60 and max(map(len, lines)) <= 120
    assert any("choice_39" in line for line in lines)


# ---- comma lists and quotes ----


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("seed=1,2,3", ["1", "2", "3"]),
        ("seed=1", ["1"]),
        ("task=", [""]),
        ("probes=[a,b],[c]", ["[a,b]", "[c]"]),
        ("sizes=[1,2]", ["[1,2]"]),
        ("task='a,b',c", ["'a,b'", "c"]),
        ('task="a,b"', ['"a,b"']),
        ("body={a: 1, b: 2}", ["{a: 1, b: 2}"]),
        ("device=cuda:0,cuda:1", ["cuda:0", "cuda:1"]),
        ("task=runs/a b,runs/c", ["runs/a b", "runs/c"]),
        ("task=it's,so", ["it's", "so"]),
    ],
)
def test_comma_lists_are_spread(argument: str, values: list[str]) -> None:
    key = argument.partition("=")[0]
    assert spread(argument) == [f"{key}={value}" for value in values]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "runs/a-b_1.5",
            "/a folder/it's, (x) = [y]\\z",
            "",
            "3",
            "1e3",
            "null",
            "true",
            "no",
            "~",
            ".nan",
            "-",
            "x=y",
        ),
        *(
            "a,b",
            "[a",
            "'a",
            '"',
            "{}",
            " a ",
            "a: b",
            "a #b",
            "@x",
            "*x",
            "a\nb",
            "a\u2028b\x7f",
            "\U0001f600,",
            "${a}",
        ),
    ],
)
def test_assigned_text_is_read_back(text: str) -> None:
    argument = assigned("task", text)
    assert spread(argument) == [argument]
    assert compose(argument).task == text


def test_plain_text_is_assigned_without_quotes() -> None:
    assert assigned("run", "runs/a b-1.5") == "run=runs/a b-1.5"
    assert compose(assigned("views", [1, "a,b"]), assigned("flag", True)) == Config(views=(1, "a,b"), flag=True)


def test_field_names_are_dotted() -> None:
    assert [name for name, _, _ in walk(Video())] == ["body", "body.depth", "body.sizes", "rate", "mode"]


def test_part_of_a_file_is_read(tmp_path: Path) -> None:
    settings.save(compose("encoder=blind", "encoder.width=6"), GROUPS, tmp_path / "config.yaml")
    values = {"encoder": settings.read(settings.config_file(tmp_path))["encoder"]}
    assert settings.from_dict(values, Config, GROUPS, tmp_path, {"seed": 2}) == Config(seed=2, encoder=Blind(6))
