"""Frames as PNG pictures inside a page, and real frames beside imagined ones."""

import base64
import io

import numpy as np
from einops import rearrange
from PIL import Image

from mindreel.viz.chart import Series, line_chart

_MAX_EXAMPLES = 4
_COLUMNS = 8
_DIFFERENCE_GAIN = 2.0
# From equal to most different: dark violet, red, yellow, white. Brightness alone tells the order.
_HEAT = np.array([[12, 8, 30], [120, 28, 109], [229, 92, 48], [251, 205, 70], [255, 255, 240]], dtype=np.float32)


def png_uri(picture: np.ndarray) -> str:
    """uint8 (3, H, W) as a data URI; the page enlarges it with crisp pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rearrange(picture, "c h w -> h w c"))).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def difference(real: np.ndarray, imagined: np.ndarray) -> np.ndarray:
    """The difference of two pictures, from dark (equal) to white (half the range or more apart).

    uint8 (3, H, W) each; uint8 (3, H, W) is returned.
    """
    apart = np.abs(real.astype(np.float32) - imagined.astype(np.float32)).max(0) / 255  # (H, W)
    place = np.clip(apart * _DIFFERENCE_GAIN, 0, 1) * (len(_HEAT) - 1)
    below = np.minimum(place.astype(int), len(_HEAT) - 2)
    weight = (place - below)[..., None]
    colors = ((1 - weight) * _HEAT[below] + weight * _HEAT[below + 1]).astype(np.uint8)
    return rearrange(colors, "h w c -> c h w")


def imagination_strips(real: np.ndarray, imagined: np.ndarray) -> str:
    """Real frames above imagined ones above their difference, for up to four examples.

    Args:
        real: uint8 (K, T, 3, H, W); imagination starts from frame 0.
        imagined: of the same shape.
    """
    columns = np.unique(np.linspace(0, real.shape[1] - 1, _COLUMNS).round().astype(int))
    examples = [_example(r, i, columns) for r, i in zip(real[:_MAX_EXAMPLES], imagined, strict=False)]
    return "".join(examples)


def _example(real: np.ndarray, imagined: np.ndarray, columns: np.ndarray) -> str:
    rows = {
        "real": [real[t] for t in columns],
        "imagined": [imagined[t] for t in columns],
        "difference": [difference(real[t], imagined[t]) for t in columns],
    }
    head = "".join(f"<span>{'step ' if t == 0 else '+'}{t}</span>" for t in columns)
    body = "".join(
        f'<b>{name}</b><div class="row" role="img" aria-label="{name} frames">'
        + "".join(f'<img alt="" src="{png_uri(picture)}">' for picture in pictures)
        + "</div>"
        for name, pictures in rows.items()
    )
    return f'<div class="strip"><b></b><div class="row steps">{head}</div>{body}</div>'


def imagination_error(real: np.ndarray, imagined: np.ndarray) -> str:
    """A chart of how far imagined frames are from real ones, compared with repeating the first frame."""

    def error(frames: np.ndarray) -> list[float]:
        # One step at a time: float copies of everything would take several times the arrays' memory.
        steps = zip(real.swapaxes(0, 1), frames.swapaxes(0, 1), strict=True)
        return [100 * float(np.abs(r.astype(np.float32) - f).mean()) / 255 for r, f in steps]

    steps = list(range(real.shape[1]))
    still = np.broadcast_to(real[:, :1], real.shape)
    series = [
        Series("imagined", steps, error(imagined), color=1, kind="marks"),
        Series("first frame repeated", steps, error(still), color=2, kind="dashes"),
    ]
    title = "How far imagination drifts"
    return line_chart(title, series, "steps imagined", "mean pixel error (% of range)", from_zero=True)
