"""The page of a sweep shows what its run folders hold, however many runs are done."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mindreel.viz.sweep.page import arm_curves, write_sweep_page
from mindreel.viz.sweep.results import read_results, sweep_rows

_NEVER_CLOSED = {"meta", "link", "br"}


class _Text(HTMLParser):
    """Checks that each tag is closed by its own kind; gathers visible text and every address."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        drawn = " ".join(value for name, value in attrs if name in ("d", "style", "data-chart") and value)
        assert not re.search(r"\bnan\b|\binf\b|Infinity", drawn, re.IGNORECASE)
        if tag not in _NEVER_CLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag == "path", f"<{tag}/> is not valid HTML"

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data + " "


def _page(folder: Path) -> str:
    """The visible text of the page, held to what every page must be."""
    page = write_sweep_page(folder).read_text(encoding="utf-8")
    parser = _Text()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert all(one.startswith("data:") or (folder / one).parent.is_dir() for one in parser.addresses), parser.addresses
    assert "http:" not in page and "https:" not in page and "@import" not in page
    return re.sub(r"\s+", " ", parser.text)


def _run(
    folder: Path,
    task: str,
    encoder: str,
    seed: int,
    *,
    points: int = 0,
    score: float | None = None,
    coefficient: float | None = None,
    updates: int = 400,
    tflop: float = 3.25,
) -> Path:
    """A run folder: planned with neither points nor score, under way with points only."""
    variant = "" if coefficient is None else f"-{coefficient}"
    path = folder / f"{task}-{encoder}{variant}-{seed}"
    path.mkdir()
    jepa = "" if coefficient is None else f"  jepa_coef: {coefficient}\n"
    (path / "config.yaml").write_text(
        f"task: {task}\nseed: {seed}\nrun: {path}\nloop:\n  updates: {updates}\nencoder:\n  name: {encoder}\n{jepa}"
        "agent:\n  name: mpc\n"
    )
    rows = [
        {"stage": "train", "env_frames": 100 * i, "updates": 10 * i, "episode_return": float(10 * i + seed)}
        for i in range(1, points + 1)
    ]
    if rows:
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if score is not None:
        probes = [
            {"encoder": name, "probe": "linear", "target": target, "r2": r2 + 0.02 * seed}
            for name, base in ((encoder, 0.8), ("untrained", 0.3), ("pixels", 0.5))
            for target, r2 in (("position", base), ("velocity", base - 0.3))
        ]
        summary = {"task": task, "seed": seed, "encoder": encoder, "agent": "mpc", "probes": probes}
        summary |= {"eval_return_mean": score, "eval_return_ci95": [score - 9, score + 9]}
        summary |= {"no_planning_return_mean": score / 5 + 0.5, "random_return_mean": 20.0}
        summary |= {"updates": updates, "env_frames": 4000, "git_commit": "0123abc", "command": "python train.py"}
        summary |= {"wall_time_s": {"setup": 30.0, "train": 200.0, "total": 240.0}, "hardware": {"threads": seed}}
        summary |= {"throughput": {"tflop": tflop, "clips_per_s": 321.0}}
        (path / "summary.json").write_text(json.dumps(summary))
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two tasks, two encoders, three seeds, all done."""
    scores = {"walker-walk": (600.0, 630.0, 720.0), "reacher-easy": (900.0, 930.0, 990.0)}
    folder = tmp_path / "sweep"
    folder.mkdir()
    for task, found in scores.items():
        for seed, score in enumerate(found, 1):
            _run(folder, task, "vjepa", seed, points=40, score=score)
            _run(folder, task, "cnn", seed, points=40, score=score / 3)
    return folder


def test_a_finished_sweep_shows_its_numbers(sweep):
    text = _page(sweep)
    for expected in (
        "12 of 12 runs done · 2 tasks · 2 encoders · 3 seeds",
        "All tasks",
        "795",  # of 600 630 720 900 930 990 the middle four: (630 + 720 + 900 + 930) / 4
        "265",
        "Every finished run had 400 updates and 4,000 environment frames.",
        "walker-walk, linear probe",
        "0.84",  # the mean of 0.82, 0.84 and 0.86
        "raw pixels",
        "0.54",
        "4.0",  # minutes
        "3.25",  # TFLOP of the encoder's own objective
        "321",  # its clips a second
        "python train.py",
        "1, 2, 3",  # threads of the three seeds
    ):
        assert expected in text, expected
    assert "Not to be compared" not in text and "not equal" not in text and "single run" not in text
    assert "untrained" not in text
    assert not list(sweep.glob(".ablation*"))


def test_rows_of_a_finished_sweep(sweep):
    rows = sweep_rows(read_results(sweep))
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    assert [row["level"] for row in rows].count("run") == 12
    first = next(row for row in rows if (row["level"], row["task"], row["encoder"]) == ("run", "walker-walk", "vjepa"))
    assert (first["seed"], first["return"], first["low"], first["high"]) == (1, 600, 591, 609)
    assert (first["updates"], first["env_frames"], first["wall_time_s"]) == (400, 4000, 240)
    assert isinstance(first["updates"], int)
    assert (first["linear_r2"], first["tflop"], first["clips_per_s"]) == (0.67, 3.25, 321)  # of 0.82 and 0.52
    assert (first["no_planning_return"], first["random_return"], first["mlp_r2"]) == (120.5, 20, None)
    task = next(row for row in rows if (row["level"], row["task"], row["encoder"]) == ("task", "walker-walk", "vjepa"))
    assert (task["return"], task["runs"], task["seed"]) == (650, 3, None)
    assert 600 <= task["low"] < 650 < task["high"] <= 720
    assert (task["linear_r2"], task["no_planning_return"]) == (0.69, 130.5)  # seeds 1, 2, 3
    whole = next(row for row in rows if (row["level"], row["encoder"]) == ("all", "vjepa"))
    assert (whole["task"], whole["return"], whole["tasks"], whole["runs"]) == ("all", 795, 2, 6)


def test_a_half_finished_sweep_reports_what_there_is(tmp_path):
    _run(tmp_path, "walker-walk", "vjepa", 1, points=40, score=500.0)
    _run(tmp_path, "walker-walk", "vjepa", 2, points=12)
    _run(tmp_path, "reacher-easy", "vjepa", 1)
    _run(tmp_path, "walker-walk", "cnn", 1, points=3)
    (tmp_path / "walker-walk-cnn-1" / "failure.txt").write_text("out of memory <GPU> (logs/x.txt)\n")
    text = _page(tmp_path)
    for expected in (
        "1 of 4 runs done · 1 unfinished · 1 failed · 1 not started",
        "walker-walk-cnn-1 failed: out of memory <GPU> (logs/x.txt)",
        "120 of 400 updates",
        "Not to be compared yet, since finished runs are missing on some of the tasks: vjepa.",
        "single run",
        "Dashes",
    ):
        assert expected in text, expected
    rows = sweep_rows(read_results(tmp_path))
    assert [(row["level"], row["return"], row["low"]) for row in rows][1:] == [("task", 500, None), ("all", 500, None)]


def test_nothing_done_yet_is_said(tmp_path):
    _run(tmp_path, "walker-walk", "vjepa", 1)
    text = _page(tmp_path)
    for expected in ("0 of 1 runs done", "No run has finished yet.", "No training episode has ended yet."):
        assert expected in text
    assert sweep_rows(read_results(tmp_path)) == []


def test_curves_are_solid_where_all_runs_have_been(tmp_path):
    for seed, points in ((1, 40), (3, 20)):
        _run(tmp_path, "walker-walk", "vjepa", seed, points=points)
    band, line, dashes = arm_curves("vjepa", 1, read_results(tmp_path))
    assert (band.kind, line.kind, dashes.kind) == ("band", "line", "dashes")
    assert (line.x[0], line.x[-1], dashes.x[0], dashes.x[-1]) == (100, 2000, 2000, 4000)
    assert line.y[0] == 12  # between 11 and 13
    assert (band.y[0], band.y[-1]) == (13, 11)  # there along the highest, back along the lowest
    assert dashes.y[-1] == 356  # the last ten of the first run: 311 to 401


def test_variants_are_what_differs_within_an_encoder(tmp_path):
    _run(tmp_path, "walker-walk", "vjepa", 1, score=1.0, coefficient=0.0)
    _run(tmp_path, "walker-walk", "vjepa", 1, score=2.0, coefficient=1.0)
    _run(tmp_path, "walker-walk", "cnn", 1, score=3.0)
    _run(tmp_path, "reacher-easy", "cnn", 1, score=3.0, updates=800)  # a task may have settings of its own
    assert {cell.name: cell.variant for cell in read_results(tmp_path)} == {
        "walker-walk-vjepa-0.0-1": "encoder.jepa_coef=0.0",
        "walker-walk-vjepa-1.0-1": "encoder.jepa_coef=1.0",
        "walker-walk-cnn-1": "",
        "reacher-easy-cnn-1": "",
    }
    text = _page(tmp_path)
    assert "vjepa, jepa_coef=0.0" in text
    assert "Compute is not equal: 800 updates and 4,000 environment frames (cnn)" in text


def test_encoders_that_had_unequal_compute_are_named(tmp_path):
    _run(tmp_path, "walker-walk", "vjepa", 1, score=1.0)
    _run(tmp_path, "walker-walk", "videomae", 1, score=1.0, tflop=3.3)
    _run(tmp_path, "walker-walk", "random", 1, score=1.0, tflop=0.0)
    assert "not trained with equal compute" not in _page(tmp_path)
    _run(tmp_path, "walker-walk", "lejepa", 1, score=1.0, tflop=4.5)
    text = _page(tmp_path)
    assert "Encoders were not trained with equal compute, in TFLOP: " in text and "lejepa 4.5" in text
    assert "random 0" not in text and "pretrain.tflop makes it equal" in text


def test_a_choice_of_a_group_is_named_without_its_fields(tmp_path):
    for seed, agent, lr in ((1, "mpc", 1), (1, "actor_critic", 2), (2, "actor_critic", 3)):
        path = tmp_path / f"{agent}-{lr}"
        path.mkdir()
        (path / "config.yaml").write_text(
            f"task: t\nseed: {seed}\nencoder: {{name: cnn}}\nagent: {{name: {agent}, lr: {lr}, size: {len(agent)}}}\n"
        )
    assert {cell.name: cell.variant for cell in read_results(tmp_path)} == {
        "mpc-1": "agent=mpc, agent.lr=1",
        "actor_critic-2": "agent=actor_critic, agent.lr=2",
        "actor_critic-3": "agent=actor_critic, agent.lr=3",
    }


def test_what_a_run_holds_cannot_become_markup(sweep):
    evil = '"><script>alert(1)</script><img src=x>'
    path = next(sweep.glob("*vjepa-1"))
    summary = json.loads((path / "summary.json").read_text())
    summary |= {"probes": [{"encoder": "vjepa", "probe": evil, "target": evil, "r2": 1.0}], "command": evil}
    summary |= {"wall_time_s": {evil: 3.0}, "hardware": {evil: evil}, "versions": evil, "throughput": evil}
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "config.yaml").write_text(json.dumps({"task": evil, "encoder": {"name": evil}, "seed": evil}))
    (path / "failure.txt").write_text(evil)
    _page(sweep)
    page = (sweep / "ablation.html").read_text()
    assert "<script>alert" not in page and page.count("<script>") == 1


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "config.yaml"])
@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_a_missing_or_damaged_file_costs_only_its_run(sweep, name, damage):
    path = next(sweep.glob("*vjepa-1")) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"\xff\xfe not what is expected here \x00")
    text = _page(sweep)
    assert "runs done" in text and "Learning curves" in text
    if name == "summary.json":
        assert "11 of 12 runs done" in text


def test_folders_without_runs_are_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="Expected the folder of a sweep, got .*nowhere"):
        write_sweep_page(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="Expected runs in .*a run is a folder with a config.yaml"):
        write_sweep_page(tmp_path)
