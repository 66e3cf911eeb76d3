"""One page that shows what a run did: `write_report(run_dir)`.

The page needs no network. Where an unfinished run has nothing to show yet, a sentence says so.
"""

import base64
from html import escape
from pathlib import Path

from mindreel.files import write_text
from mindreel.viz import curves, pictures, summary_html
from mindreel.viz.run_files import RunFiles, number, read_run
from mindreel.viz.style import page
from mindreel.viz.summary_html import missing

_MAX_VIDEO_BYTES = 12_000_000


def write_report(run_dir: Path | str) -> Path:
    """Reads the run in `run_dir` and writes `report.html` there.

    It reads summary.json, metrics.jsonl, config.yaml, videos/*.mp4 and imagination.npz (real and imagined,
    uint8 (K, T, 3, H, W)); each may be missing.

    Returns:
        The path of the page.

    Raises:
        ValueError: when `run_dir` is not a folder.
    """
    run_dir = Path(run_dir)
    page = render_report(read_run(run_dir))
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def render_report(run: RunFiles) -> str:
    """The page as HTML."""
    task = str(run.summary.get("task") or run.name)
    body = "".join(
        (
            _header(run, task),
            _score_section(run),
            _learning_section(run),
            _imagination_section(run),
            _encoder_section(run),
            _losses_section(run),
            _run_section(run),
            _config_section(run),
        )
    )
    return page(task, body)


def _header(run: RunFiles, task: str) -> str:
    known = {key: run.summary.get(key) for key in ("encoder", "agent", "seed")}
    parts = [f"{key} {value}" for key, value in known.items() if value is not None]
    frames = number(run.summary.get("env_frames"))
    parts += [] if frames is None else [f"{frames:,.0f} environment frames"]
    notes = "".join(missing(note) for note in run.notes)
    if not run.summary:
        notes += missing("This run has no summary.json yet: it has not finished, or was stopped.")
    return (
        f'<header><p class="eyebrow">Mindreel run</p><h1>{escape(task)}</h1>'
        f'<p class="muted">{escape(" · ".join(parts))}</p>{notes}</header>'
    )


def _section(title: str, text: str, content: str) -> str:
    lead = f'<p class="muted">{escape(text)}</p>' if text else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{content}</section>"


def _score_section(run: RunFiles) -> str:
    left = summary_html.headline(run.summary) + summary_html.scores(run.summary)
    return f'<section class="hero"><div>{left}</div><div class="video">{_videos(run)}</div></section>'


def _videos(run: RunFiles) -> str:
    if not run.videos:
        return missing("There is no evaluation video (videos/*.mp4).")
    shown, left_out, size = "", [], 0
    for name, content in run.videos:
        if size + len(content) > _MAX_VIDEO_BYTES:
            left_out.append(name)
            continue
        size += len(content)
        data = base64.b64encode(content).decode()
        shown += (
            "<figure><video controls loop muted autoplay playsinline "
            f'src="data:video/mp4;base64,{data}"></video><figcaption>{escape(name)}</figcaption></figure>'
        )
    if left_out:
        shown += missing(f"Too large to embed, to be found in videos/: {', '.join(left_out)}.")
    return shown


def _learning_section(run: RunFiles) -> str:
    chart = curves.learning_curve(run)
    content = chart or missing("There is no learning curve: metrics.jsonl holds no finished episodes yet.")
    return f"<section>{content}</section>"


def _imagination_section(run: RunFiles) -> str:
    title = "What the model imagines"
    if run.real is None or run.imagined is None:
        return _section(title, "", missing("There are no imagined frames (imagination.npz)."))
    text = (
        "The model sees the frames up to the first one here, and from there on only the actions. A decoder draws "
        "the latents that it imagines. The agent does not use that decoder."
    )
    scale = (
        '<p class="muted">Difference: none<span class="scale" role="img" aria-label="dark to bright">'
        "</span>half the range or more apart.</p>"
    )
    strips = pictures.imagination_strips(run.real, run.imagined)
    chart = pictures.imagination_error(run.real, run.imagined)
    return _section(title, text, f"{strips}<p></p>{scale}{chart}")


def _encoder_section(run: RunFiles) -> str:
    text = (
        "R² of probes that read the simulator's state from the features, on held-out episodes: 1 is exact, "
        "0 is no better than guessing the mean."
    )
    charts = curves.stage_charts(run, "pretrain")
    content = summary_html.probe_tables(run.summary) + "<h3>While pretraining</h3>"
    content += _grid(charts) if charts else missing("There are no pretraining curves in metrics.jsonl.")
    return _section("What the encoder knows", text, content)


def _losses_section(run: RunFiles) -> str:
    losses = curves.stage_charts(run, "train", losses=True)
    content = _grid(losses) if losses else missing("There are no training losses in metrics.jsonl.")
    stages = dict.fromkeys(str(row.get("stage")) for row in run.metrics)
    others = curves.stage_charts(run, "train", losses=False)
    for stage in stages:
        if stage not in ("pretrain", "train", "eval"):
            others += curves.stage_charts(run, stage)
    if others:
        content += f"<details><summary>Other measurements</summary>{_grid(others)}</details>"
    text = "Dots are logged values, the line is their running mean."
    return _section("Losses of the world model and the agent", text if losses else "", content)


def _run_section(run: RunFiles) -> str:
    content = (
        summary_html.run_details(run.summary) + "<h3>Where the time went</h3>" + summary_html.stage_times(run.summary)
    )
    return _section("The run", "", content)


def _config_section(run: RunFiles) -> str:
    if not run.config:
        return _section("Config", "", missing("There is no config.yaml."))
    return f"<section><details><summary>Config</summary><pre>{escape(run.config)}</pre></details></section>"


def _grid(charts: list[str]) -> str:
    return f'<div class="grid">{"".join(charts)}</div>'
