"""Draws every chart of results/charts/ from the rows beside this file.

python results/draw_charts.py
"""

import json
from collections import defaultdict
from html import escape
from pathlib import Path
from statistics import mean

RESULTS = Path(__file__).parent
INK, FAINT, GREY = "#1f2328", "#d8dee4", "#949494"
BLUE, SKY, ORANGE, PURPLE, GREEN, RED = "#0072b2", "#7fbfe6", "#e69f00", "#a0548a", "#009e73", "#d55e00"
NAMES = {"vjepa": "V-JEPA", "vicreg": "VICReg", "lejepa": "LeJEPA", "videomae": "VideoMAE", "cnn": "CNN, end to end"}
NAMES |= {"internvideo": "InternVideo", "internvideo2": "InternVideo2", "pixels": "Principal components"}
NAMES |= {"random": "Untrained network", "untrained": "Untrained network", "state": "Simulator's state"}
COLOURS = {"vjepa": BLUE, "pixels": ORANGE, "random": ORANGE, "untrained": ORANGE, "cnn": PURPLE, "state": GREY}
KINDS = [(BLUE, "V-JEPA"), (SKY, "other pretraining"), (ORANGE, "no training")]
CARTPOLE, WALKER = ("cartpole-swingup", 1200, 185600), ("walker-walk", 3000, 208000)  # task, updates, frames


def rows(name: str) -> list[dict]:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


class Chart:
    """An SVG picture with a light background of its own."""

    def __init__(self, title: str, subtitle: str, height: int):
        self.height = height
        self.parts = [f'<rect x="0.5" y="0.5" width="959" height="{height - 1}" rx="8" fill="#fff" stroke="#d0d7de"/>']
        self.text(24, 36, title, 21, weight=600)
        self.text(24, 61, subtitle, 15, fill="#59636e")

    def text(self, x, y, words, size=15, anchor="start", weight=400, fill=INK, turn=0) -> None:
        look = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}"'
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {look}{turned}>{escape(str(words))}</text>')

    def line(self, points, colour=FAINT, width=1.0, dash="none") -> None:
        look = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"'
        self.parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {look}/>')

    def box(self, x, y, width, height, colour) -> None:
        size = f'width="{max(width, 0):.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>')

    def dot(self, x, y, fill=INK, ring="#fff", radius=5.0) -> None:
        look = f'fill="{fill}" stroke="{ring}" stroke-width="2"'
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}/>')

    def legend(self, y, entries, x=24.0) -> None:
        for colour, words in entries:
            self.box(x, y - 11, 13, 13, colour)
            self.text(x + 19, y, words, 14)
            x += 44 + 7.2 * len(words)

    def bars(self, left, top, width, entries, ticks, axis, number="{:.0f}", labels=True, step=32) -> None:
        """Lying bars, one an entry (label, values, colour): as long as the values' mean; several values are dots."""
        scale, bottom = width / ticks[-1], top + step * len(entries)
        for tick in ticks:
            self.line([(left + tick * scale, top - 4), (left + tick * scale, bottom)])
            self.text(left + tick * scale, bottom + 18, f"{tick:,}", 14, "middle")
        self.text(left + width / 2, bottom + 40, axis, 15, "middle")
        for i, (label, values, colour) in enumerate(entries):
            y = top + i * step
            if labels:
                self.text(left - 10, y + step / 2 + 4, label, 15, "end")
            self.box(left, y + 4, mean(values) * scale, step - 8, colour)
            for value in values if len(values) > 1 else ():
                self.dot(left + value * scale, y + step / 2)
            end = left + max(values) * scale + (12 if len(values) > 1 else 8)
            self.text(end, y + step / 2 + 5, number.format(mean(values)), 15, weight=600)

    def axes(self, left, top, width, height, x_ticks, y_ticks, x_axis, y_axis):
        """Grid and ticks (value, label), the ends first and last; returns the function from values to the picture."""
        x0, x1, y0, y1 = x_ticks[0][0], x_ticks[-1][0], y_ticks[0][0], y_ticks[-1][0]
        at = lambda x, y: (left + (x - x0) / (x1 - x0) * width, top + height - (y - y0) / (y1 - y0) * height)
        for y, label in y_ticks:
            self.line([at(x0, y), at(x1, y)])
            self.text(left - 9, at(x0, y)[1] + 5, label, 14, "end")
        for x, label in x_ticks:
            self.text(at(x, y0)[0], top + height + 21, label, 14, "middle")
        self.text(left + width / 2, top + height + 44, x_axis, 15, "middle")
        self.text(left - 52, top + height / 2, y_axis, 15, "middle", turn=-90)
        return at

    def save(self, name: str) -> None:
        size = f'viewBox="0 0 960 {self.height}" width="960" height="{self.height}"'
        font = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
        svg = "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>', *self.parts, "</svg>\n"])
        (RESULTS / "charts" / f"{name}.svg").write_text(svg, encoding="utf-8")


def returns(task: str, updates: int, frames: int) -> dict[str, dict[int, dict]]:
    """Runs by encoder and seed, best mean first: a still background, at most 9.7 TFLOP of pretraining."""
    plain = {"", "updates=3000", "readout=compressed, updates=3000"}  # what a run has beside the sweep's settings
    plain.add("readout=compressed, moved frames, faster teacher, updates=3000")  # V-JEPA as it is by default
    found = defaultdict(dict)
    for row in rows("encoders/ablation.json") + rows("encoders/ablation_more.json"):
        here = (row["level"], row["task"], row["updates"], row["env_frames"]) == ("run", task, updates, frames)
        if here and row["variant"] in plain:
            found[row["encoder"]][row["seed"]] = row
    return dict(sorted(found.items(), key=lambda one: -mean(run["return"] for run in one[1].values())))


def draw_returns() -> None:
    chart = Chart("Return by encoder", "Bars: mean over seeds, whose number stands in brackets. Dots: seeds.", 712)
    chart.legend(90, [*KINDS, (PURPLE, "the agent trains it"), (GREY, "no pictures")])
    top = 144
    for task, updates, frames in (CARTPOLE, WALKER):
        found = returns(task, updates, frames).items()
        entries = [
            (f"{NAMES[name]} ({len(runs)})", [run["return"] for run in runs.values()], COLOURS.get(name, SKY))
            for name, runs in found
        ]
        chart.text(24, top - 16, f"{task}, {updates:,} updates, {frames:,} frames", 16, weight=600)
        chart.bars(220, top, 670, entries, range(0, 1001, 200), "return of an episode, at most 1,000")
        top += 32 * len(entries) + 94
    chart.save("returns")


def draw_probes() -> None:
    scores = defaultdict(list)  # of encoder, probe, seed: one of each task
    for row in rows("encoders/objectives.json"):
        if row["target"] == "mean":
            scores[row["encoder"], row["probe"], row["seed"]].append(row["score"])
    means = defaultdict(lambda: defaultdict(list))  # of probe, encoder: one of each seed that has all four tasks
    for (name, probe, _), four in scores.items():
        if len(four) == 4:
            means[probe][name].append(mean(four))
    names = sorted(means["linear"], key=lambda name: -mean(means["linear"][name]))
    about = "R2, mean of cartpole, cup, reacher and walker; 9.3 TFLOP of pretraining. Dots: seeds, where there are two."
    chart = Chart("What encoders know of the simulator's state", about, 454)
    chart.legend(90, KINDS)
    for i, (probe, label) in enumerate((("linear", "Linear"), ("mlp", "MLP"), ("attentive", "Attentive"))):
        left = 196 + i * 254
        entries = [(NAMES[name], means[probe][name], COLOURS.get(name, SKY)) for name in names]
        chart.text(left, 126, f"{label} probe", 16, weight=600)
        chart.bars(left, 140, 200, entries, [0, 0.5, 1], "R2 (1 is exact)", "{:.2f}", labels=i == 0)
    chart.save("probes")


def draw_components() -> None:
    about = "Each seed of both sweeps. Whiskers: 95% interval over the ten episodes of that seed."
    chart = Chart("V-JEPA beside principal components of pixels, which take no training", about, 462)
    chart.legend(90, [(BLUE, "V-JEPA"), (ORANGE, "principal components"), (GREY, "untrained network")])
    looks = {"vjepa": (-0.25, BLUE), "pixels": (0, ORANGE), "random": (0.25, GREY), "untrained": (0.25, GREY)}
    for left, setting, seeds in ((84, CARTPOLE, (1, 2, 3)), (558, WALKER, (1, 2))):
        x_ticks = [(0.5, ""), *((seed, f"seed {seed}") for seed in seeds), (len(seeds) + 0.5, "")]
        chart.text(left, 128, f"{setting[0]}, {setting[1]:,} updates", 16, weight=600)
        at = chart.axes(left, 146, 378, 270, x_ticks, [(y, y) for y in range(0, 601, 100)], "", "return")
        for name, runs in returns(*setting).items():
            for seed, run in runs.items() if name in looks else ():
                x = seed + looks[name][0]
                chart.line([at(x, run["low"]), at(x, run["high"])], looks[name][1], 3)
                chart.dot(*at(x, run["return"]), looks[name][1], radius=6)
                chart.text(at(x, 0)[0], at(x, run["high"])[1] - 8, f"{run['return']:.0f}", 14, "middle")
    chart.save("components")


def draw_published() -> None:
    about = "Filled: measured here, a dot for each seed, 2 CPU cores. Hollow and dashed: quoted, not run here."
    chart = Chart("Beside published agents, at their numbers of environment frames", about, 536)
    looks = {("DreamerV3", "pixels"): ORANGE, ("DrQ-v2", "pixels"): PURPLE, ("TD-MPC2", "pixels"): GREEN}
    looks |= {("MR.Q", "pixels"): RED, ("TD-MPC2", "state"): GREY}
    demo = [rows(f"first_light/demo{end}.summary.json") for end in ("", "-seed2", "-seed3")]
    walker = [row for row in rows("encoders/ablation_more.json") if (row["encoder"], row["updates"]) == ("vjepa", 8000)]
    ours = {"cartpole-swingup": [(run["env_frames"], run["eval_return_mean"]) for run in demo]}
    ours["walker-walk"] = [(run["env_frames"], run["return"]) for run in [*walker, *returns(*WALKER)["vjepa"].values()]]
    for left, task in ((84, "cartpole-swingup"), (556, "walker-walk")):
        x_ticks = [(0, "0"), *((frames * 1000, f"{frames}k") for frames in range(200, 801, 200)), (1_000_000, "1M")]
        chart.text(left, 98, task, 16, weight=600)
        y_ticks = [(y, f"{y:,}") for y in range(0, 1001, 200)]
        at = chart.axes(left, 114, 374, 290, x_ticks, y_ticks, "environment frames", "return of an episode")
        for agent, colour in looks.items():
            kept = [row for row in rows("published.json") if (row["agent"], row["sees"], row["task"]) == (*agent, task)]
            chart.line([at(row["frames"], row["return"]) for row in kept], colour, 2.2, "7 5")
            for row in kept:
                chart.dot(*at(row["frames"], row["return"]), "#fff", colour)
        below = -1000.0
        for frames, value in sorted(ours[task], key=lambda run: run[1]):
            x, y = at(frames, value)
            shift, anchor = (-12, "end") if value - below < 60 else (12, "start")  # so that labels do not overlap
            chart.dot(x, y, BLUE, radius=7)
            chart.text(x + shift, y + 5, f"{value:.0f}", 15, anchor, 600, BLUE)
            below = value
    chart.text(24, 486, "Measured:", 14, weight=600)
    chart.legend(486, [(BLUE, "Mindreel with V-JEPA, from pixels")], 116)
    chart.text(24, 512, "Quoted:", 14, weight=600)
    chart.legend(512, [(colour, f"{agent}, {sees}") for (agent, sees), colour in looks.items()], 116)
    chart.save("published")


def draw_speed() -> None:
    about = "Decisions a second, each with a 64x64 picture, resets counted. 2 CPU cores; dm_control in one process."
    chart = Chart("Speed of worlds", about, 456)
    ours, theirs = defaultdict(dict), {}  # of task: by number of worlds, and dm_control's
    tasks = ("cheetah", "cartpole", "ball_in_cup", "pendulum", "point_mass", "reacher", "walker")
    for task in tasks:
        for row in rows(f"environments/{task}.json"):
            if row["what"] == "both with reset" and row["backend"] == "warp":
                ours[task][row["worlds"]] = row["frames_per_s"]
            elif row["what"] == "both with reset":
                theirs[task] = row["frames_per_s"]
    chart.text(24, 104, "64 worlds", 16, weight=600)
    chart.legend(104, [(BLUE, "Mindreel"), (RED, "dm_control")], 124)
    entries = [(task, [ours[task][64]], BLUE) for task in tasks]
    chart.bars(120, 122, 300, entries, range(0, 4001, 1000), "decisions a second", "{:,.0f}", step=38)
    for i, task in enumerate(tasks):
        chart.box(120, 148 + 38 * i, theirs[task] * 300 / 4000, 8, RED)
        chart.text(134, 147 + 38 * i, f"{ours[task][64] / theirs[task]:.0f} ×", 15, weight=600, fill="#fff")
    chart.text(560, 104, "By number of worlds", 16, weight=600)
    x_ticks, y_ticks = [(i, f"{4**i:,}") for i in range(7)], [(y, f"{y:,}") for y in range(0, 4001, 1000)]
    at = chart.axes(560, 122, 360, 266, x_ticks, y_ticks, "worlds", "decisions a second")
    for task, colour in (("cartpole", BLUE), ("walker", GREEN)):
        points = [at(i, ours[task][4**i]) for i in range(7)]
        chart.line(points, colour, 2.5)
        for point in points:
            chart.dot(*point, colour)
        chart.text(points[4][0], points[4][1] - 14, task, 15, "middle", 600, colour)
    chart.save("speed")


if __name__ == "__main__":
    (RESULTS / "charts").mkdir(exist_ok=True)
    for draw in (draw_returns, draw_probes, draw_components, draw_published, draw_speed):
        draw()
