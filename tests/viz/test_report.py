"""The report says what the run folder says, needs no network, and survives half a run."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mindreel.viz.report import write_report

_NEVER_CLOSED = {"meta", "link", "img", "br"}


class _Balance(HTMLParser):
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


def _parse(folder: Path) -> _Balance:
    """Writes and reads the page of `folder`; holds it to what every page must be."""
    page = write_report(folder).read_text(encoding="utf-8")
    parser = _Balance()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert all(address.startswith("data:") for address in parser.addresses)
    assert "http:" not in page and "https:" not in page and "@import" not in page
    return parser


def _change(folder: Path, **values) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_finished_run_shows_its_numbers(run_dir):
    page = _parse(run_dir)
    for expected in (
        "cartpole-swingup",
        "741",
        "95% CI 702 to 780, 10 episodes",
        "Random actions score 43; the agent, 17.4 times as much.",
        "86 more than without (655)",
        "random actions (42.6)",
        "160,000 environment frames",
        "same network, untrained",
        "raw pixels",
        "0.98",
        "5 min 01 s",
        "17 min 03 s in all",
        "python scripts/train.py preset=demo seed=1",
        "Some CPU <8 cores> & more",
        "name: vjepa # <script> & co",
        "V-JEPA loss",
        "Effective rank",
        "Probe R²",
    ):
        assert expected in re.sub(r"\s+", " ", page.text), expected
    kinds = [address.split(";")[0] for address in page.addresses]
    assert kinds.count("data:video/mp4") == 1
    assert kinds.count("data:image/png") == 2 * 3 * 8  # examples, rows, columns
    assert "missing" not in page.text and not list(run_dir.glob(".report*"))
    assert (run_dir / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(("episodes", "shown"), [(1, False), (2, False), (3, True)])
def test_an_interval_needs_three_episodes(run_dir, episodes, shown):
    _change(run_dir, eval_episodes=episodes, eval_returns=[741.3] * episodes)
    page = _parse(run_dir)
    assert ("702 to 780" in re.sub(r"\s+", " ", page.text)) == shown


def test_what_a_run_holds_cannot_become_markup(run_dir):
    evil = '"><script>alert(1)</script><img src=x>'
    probe = {"encoder": evil, "probe": evil, "target": evil, "r2": 0.5}
    _change(run_dir, task=evil, encoder=evil, agent=evil, command=evil, git_commit=evil, probes=[probe])
    _change(run_dir, wall_time_s={evil: 3.0}, hardware={evil: evil}, versions=evil)
    rows = [{"stage": "train", "env_frames": frames, f"{evil}_loss": 1.0} for frames in (1, 2)]
    (run_dir / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (run_dir / "config.yaml").write_text(evil)
    _parse(run_dir)
    page = (run_dir / "report.html").read_text()
    assert "<script>alert" not in page and page.count("<script>") == 1


def test_an_empty_folder_gives_a_page_of_sentences(tmp_path):
    page = _parse(tmp_path)
    for expected in ("no summary.json yet", "no learning curve", "no imagined frames", "no config.yaml"):
        assert expected in page.text


@pytest.mark.parametrize(
    "name", ["summary.json", "metrics.jsonl", "config.yaml", "imagination.npz", "videos/eval_0.mp4"]
)
@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_a_missing_or_damaged_file_costs_only_its_part(run_dir, name, damage):
    path = run_dir / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"\xff\xfe not what is expected here \x00")
    text = _parse(run_dir).text
    assert ("741" in text) == (name != "summary.json")
    if name == "metrics.jsonl" and damage != "gone":
        assert "1 line of metrics.jsonl could not be read" in text
    if name == "imagination.npz":
        assert "no imagined frames" in text


def test_values_of_a_wrong_kind_are_left_out(run_dir):
    original = (run_dir / "summary.json").read_text()
    for key in json.loads(original):
        for wrong in (None, "x", [], {}, [None, "x"], {"a": [1]}, float("nan"), -1e300, True):
            (run_dir / "summary.json").write_text(original)
            _change(run_dir, **{key: wrong})
            assert _parse(run_dir).text, (key, wrong)


def test_metrics_of_every_kind_are_drawn_or_left_out(run_dir):
    rows = [
        {"stage": "train", "env_frames": 10, "episode_return": float("nan"), "a_loss": 1e-9},
        {"stage": "train", "env_frames": 10, "episode_return": 5, "a_loss": 1e9, "note": "text"},
        {"stage": "train", "env_frames": None, "episode_return": -3.0, "a_loss": 0.0},
        {"stage": "train", "a_loss": {"deep": 1}, "b_loss": float("inf")},
        {"stage": None, "x": 1},
        {"stage": "collect", "step": 0, "frames_per_s": 3.0},
        {"stage": "collect", "step": 5, "frames_per_s": 3.0},
        {"stage": "pretrain", "loss": 2.0},
        {"stage": "pretrain", "loss": 1.0},
        {"no_stage": 1},
        [1, 2],
    ]
    (run_dir / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    text = _parse(run_dir).text
    assert "Learning curve" in text and "A loss" in text and "Frames per s" in text


def test_imagination_of_another_shape_is_named(run_dir):
    real = np.zeros((1, 3, 3, 8, 8), dtype=np.uint8)
    np.savez(run_dir / "imagination.npz", real=real, imagined=real[:, :2])
    assert "got uint8 (1, 3, 3, 8, 8) and uint8 (1, 2, 3, 8, 8)" in _parse(run_dir).text
    np.savez(run_dir / "imagination.npz", real=real[:, :1], imagined=real[:, :1])
    assert "What the model imagines" in _parse(run_dir).text


def test_a_large_video_is_named_and_not_embedded(run_dir):
    (run_dir / "videos" / "huge.mp4").write_bytes(b"\0\0\0\x18ftyp" + bytes(13_000_000))
    page = _parse(run_dir)
    assert "Too large to embed, to be found in videos/: huge.mp4" in page.text
    assert (run_dir / "report.html").stat().st_size < 1_000_000


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="Expected the folder of a run, got .*nowhere"):
        write_report(tmp_path / "nowhere")
