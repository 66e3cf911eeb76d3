"""The frame of a page, its look, and the script that shows a chart's values under the pointer."""

from html import escape

SERIES_COLORS = (1, 2, 3, 4, 6, 7, 8, 9)
"""Classes c1, c2, ... of what is compared; 5 is the grey of what it is compared with."""

SERIES_CSS = """
:root { --c6: #b81b5e; --c7: #8a6d00; --c8: #2b7c96; --c9: #6b4a3a; }
@media (prefers-color-scheme: dark) { :root { --c6: #ff86b3; --c7: #d9bb3c; --c8: #7fd0e6; --c9: #c9a592; } }
.c6 { color: var(--c6); } .c7 { color: var(--c7); } .c8 { color: var(--c8); } .c9 { color: var(--c9); }
"""
"""More colours than a run's report needs."""

CSS = """
:root { color-scheme: light dark; --bg: #f7f6f3; --card: #fff; --ink: #1d1c1a; --muted: #66625c; --line:
  #e4e0d9; --c1: #0a62c4; --c2: #c2500a; --c3: #0b7f63; --c4: #8443bd; --level: #77726b; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #111214; --card: #1a1b1f; --ink: #ececea; --muted: #a5a29d; --line: #303238; --c1:
    #62aefc; --c2: #f99d52; --c3: #42cba6; --c4: #c79bf3; --level: #8f8c87; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Noto Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: clamp(26px, 5vw, 38px); line-height: 1.15; margin: 4px 0 6px; letter-spacing: -.02em;
  overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 0 0 4px; letter-spacing: -.01em; }
h3 { font-size: 17px; margin: 26px 0 8px; }
.scroll h3 { font-size: 15px; margin-top: 8px; }
p { margin: 0 0 12px; max-width: 72ch; }
.muted, .eyebrow { color: var(--muted); }
.eyebrow { font-size: 13px; font-weight: 600; letter-spacing: .08em; text-transform: uppercase; margin:
  0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 22px
  24px; margin-top: 18px; }
.missing { color: var(--muted); border-left: 3px solid var(--line); padding-left: 12px; margin: 10px 0;
  }
.missing ~ .missing { margin-top: -2px; }
.grid { display: grid; gap: 22px 34px; grid-template-columns: repeat(auto-fit, minmax(min(290px, 100%),
  1fr)); }
.hero { display: grid; gap: 24px 36px; grid-template-columns: minmax(0, 1fr) 300px; align-items: center;
  }
.big { font-size: 60px; line-height: 1; font-weight: 700; letter-spacing: -.03em; color: var(--c1); }
.big small { font-size: 16px; font-weight: 400; letter-spacing: 0; color: var(--muted); margin-left:
  8px; }
video { width: 100%; max-width: 320px; aspect-ratio: 1; background: #000; border-radius: 10px; display:
  block; image-rendering: pixelated; }
figure { margin: 0; }
.video figcaption, .chart .label { font-size: 13px; color: var(--muted); }
.scores { display: grid; grid-template-columns: max-content minmax(80px, 1fr) max-content; gap: 12px
  14px; align-items: center; margin: 20px 0 4px; font-size: 14px; }
.scores .value, .bars .value, td { font-variant-numeric: tabular-nums; }
.scores .value { text-align: right; font-weight: 600; }
.scores .value small { display: block; font-weight: 400; color: var(--muted); }
.track { position: relative; height: 34px; border-left: 1px solid var(--line); border-right: 1px solid
  var(--line); background: linear-gradient(var(--line), var(--line)) center/100% 1px no-repeat; }
.track i { position: absolute; top: 50%; transform: translate(-50%, -50%); border-radius: 50%; }
.track .episode { top: 20%; width: 6px; height: 6px; background: currentColor; opacity: .45; }
.track .mean { width: 14px; height: 14px; background: currentColor; border: 2px solid var(--card); }
.track .ci { height: 6px; border-radius: 3px; background: currentColor; opacity: .4; transform:
  translateY(-50%); }
.axis { display: flex; justify-content: space-between; font-size: 12px; color: var(--muted); margin-top:
  -10px; }
.bars { display: grid; grid-template-columns: max-content minmax(60px, 1fr) max-content; gap: 7px 12px;
  align-items: center; font-size: 14px; margin-top: 12px; }
.bars .bar { height: 16px; border-radius: 3px; background: var(--c1); min-width: 2px; }
.bars .value { text-align: right; }
.chart { position: relative; min-width: 0; }
.chart figcaption { font-weight: 600; font-size: 15px; }
.chart.tall figcaption { font-size: 21px; letter-spacing: -.01em; }
.chart .label { margin: 4px 0 8px; }
.chart .under { text-align: right; margin: 26px 0 0; }
.frame { position: relative; height: 170px; margin-left: 46px; margin-right: 10px; }
.tall .frame { height: 300px; }
.frame svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.frame path { fill: none; stroke: currentColor; vector-effect: non-scaling-stroke; stroke-linejoin:
  round; stroke-linecap: round; }
.frame .grid { stroke: var(--line); }
.frame .level { stroke: var(--level); stroke-width: 1.5; }
.frame .level { stroke-dasharray: 2 5; }
.frame .line, .frame .marks { stroke-width: 2.2; }
.frame .dashes { stroke-width: 2; stroke-dasharray: 7 6; }
.frame .dots { stroke-width: 5; opacity: .3; }
.frame .points { stroke-width: 7; }
.tick { position: absolute; font-size: 12px; color: var(--muted); white-space: nowrap; pointer-events:
  none; font-variant-numeric: tabular-nums; }
.tick.y { right: 100%; transform: translateY(-50%); margin-right: 8px; }
.tick.x { top: 100%; transform: translateX(-50%); margin-top: 5px; }
.c1 { color: var(--c1); }
.c2 { color: var(--c2); }
.c3 { color: var(--c3); }
.c4 { color: var(--c4); }
.c5 { color: var(--level); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 4px; padding:
  0; font-size: 13px; }
.legend li { display: flex; align-items: center; gap: 6px; }
.key { width: 18px; border-top: 3px solid currentColor; }
.key.dashes { border-top-style: dashed; }
.key.dots { width: 7px; height: 7px; border: 0; border-radius: 50%; background: currentColor; opacity:
  .45; }
.key.level { border-top: 2px dotted var(--level); }
.cross { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--muted); opacity: .6; }
.cross, .spot, .tip { pointer-events: none; }
.spot { position: absolute; width: 11px; height: 11px; border-radius: 50%; background: currentColor;
  border: 2px solid var(--card); transform: translate(-50%, -50%); }
.tip { position: absolute; bottom: 100%; margin-bottom: 4px; background: var(--ink); color: var(--bg);
  z-index: 2; padding: 5px 9px; border-radius: 7px; font-size: 12px; line-height: 1.45; white-space:
  nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: 13px; vertical-align: bottom; }
th, td { padding: 6px 8px; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { padding-left: 0; }
td.r2 { width: 26%; }
td.best { font-weight: 700; }
td .bar { display: block; height: 4px; border-radius: 2px; margin-top: 2px; background: currentColor; }
tr:last-child td { border-bottom: 0; }
tr.mean td { border-top: 2px solid var(--line); }
.strip { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 12px; align-items:
  center; font-size: 13px; margin-top: 20px; }
.strip b { font-weight: 600; color: var(--muted); }
.row { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 3px; text-align:
  center; }
.steps { font-size: 12px; color: var(--muted); white-space: nowrap; }
.row img { width: 100%; display: block; image-rendering: pixelated; border-radius: 3px; background:
  #000; }
.scale { display: inline-block; width: 90px; height: 10px; border-radius: 3px; vertical-align: -1px;
  margin: 0 6px; background: linear-gradient(90deg, #0c081e, #781c6d, #e55c30, #fbcd46, #fffff0); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 18px; margin: 0;
  font-size: 14px; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--bg); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px;
  overflow-x: auto; font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 6px 0
  18px; }
summary { cursor: pointer; font-weight: 600; }
details > .grid { margin-top: 16px; }
.grid + details { margin-top: 22px; }
@media (max-width: 700px) {
  main { padding: 20px 12px 40px; }
  section { padding: 18px 16px; }
  .hero { grid-template-columns: minmax(0, 1fr); }
  .big { font-size: 48px; }
  .tall .frame { height: 230px; }
  .strip { grid-template-columns: minmax(0, 1fr); }
  .strip b:empty { display: none; }
  .row > :nth-child(2), .row > :nth-child(4), .row > :nth-child(5), .row > :nth-child(7) { display:
    none; }
  .row > :only-child { display: block; }
  .scores { grid-template-columns: minmax(0, 1fr) max-content; gap: 2px 12px; }
  .scores .track { grid-column: 1 / -1; grid-row: auto; margin-bottom: 10px; }
  .scores .value { grid-column: 2; }
  .scores .name { grid-column: 1; }
  .scores { grid-auto-flow: dense; }
  .scores .value small { display: inline; }
  .scores .gap { display: none; }
  .axis { grid-column: 1 / -1; }
  dl { grid-template-columns: minmax(0, 1fr); }
  dd { margin-bottom: 6px; }
}
@media print {
  body { background: #fff; }
  section { break-inside: avoid; }
}
"""

SCRIPT = """
for (const frame of document.querySelectorAll('.frame[data-chart]')) {
  const chart = JSON.parse(frame.dataset.chart), [low, high] = chart.x, made = [];
  const add = (className, left, top) => {
    const element = document.createElement('div');
    element.className = className; element.style.left = left + '%';
    if (top !== undefined) element.style.top = top + '%';
    frame.append(element); made.push(element); return element;
  };
  const text = value => Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : String(value);
  const nearest = (list, x) =>
    list.reduce((best, value, i) => Math.abs(value - x) < Math.abs(list[best] - x) ? i : best, 0);
  const clear = () => { while (made.length) made.pop().remove(); };
  const show = event => {
    clear();
    const box = frame.getBoundingClientRect();
    const pointed = low + (high - low) * (event.clientX - box.left) / box.width;
    const distance = one => Math.abs(one.x[nearest(one.x, pointed)] - pointed);
    const closest = chart.series.reduce((a, b) => distance(b) < distance(a) ? b : a);
    const x = closest.x[nearest(closest.x, pointed)], left = 100 * (x - low) / (high - low);
    add('cross', left);
    const lines = [chart.xLabel + ': ' + text(x)];
    for (const one of chart.series) {
      const i = nearest(one.x, x);
      if (Math.abs(one.x[i] - x) > (high - low) / 40) continue;
      add('spot c' + one.color, 100 * (one.x[i] - low) / (high - low), one.top[i]);
      lines.push(one.name + ': ' + text(one.y[i]));
    }
    const tip = add('tip', left);
    for (const line of lines) {
      const row = document.createElement('div'); row.textContent = line; tip.append(row);
    }
    // Centred over the value, but never past the edge of the screen.
    const half = tip.offsetWidth / 2, screen = document.documentElement.clientWidth;
    const centre = Math.min(left / 100 * box.width, screen - box.left - half - 4);
    tip.style.left = Math.max(half + 4 - box.left, centre) - half + 'px';
  };
  frame.addEventListener('pointermove', show);
  frame.addEventListener('pointerdown', show);
  frame.addEventListener('pointerleave', clear);
}
"""


def page(title: str, body: str, css: str = "") -> str:
    """A self-contained page as HTML: `body` between header and script, `css` added to the look of all pages."""
    # The policy forbids every request, so a page passed on by mail can be opened without a worry.
    policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} · Mindreel</title><style>{CSS}{css}</style></head>"
        f"<body><main>{body}</main><script>{SCRIPT}</script></body></html>"
    )
