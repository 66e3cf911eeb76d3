"""Pictures of every task by two renderers, on one sheet."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw

from mindreel.files import replacing

_COLUMNS = 6
_LABEL, _GAP = 14, 6  # rows of pixels above a pair of pictures, and pixels around it


def write_sheet(file: Path, drawn: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> None:
    """Writes a PNG with the second picture of each task by both renderers, under the task's name.

    Args:
        file: where it goes; parent folders are made.
        drawn: task -> pictures uint8 (count, 3, H, W) by our renderer and by dm_control's, None where that cannot draw.
    """
    height, width = next(iter(drawn.values()))[0].shape[-2:]
    row, column = height + _LABEL + _GAP, 2 * width + 2 + _GAP
    sheet = Image.new("RGB", (_COLUMNS * column + _GAP, -(-len(drawn) // _COLUMNS) * row + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (task, both) in enumerate(drawn.items()):
        x, y = _GAP + i % _COLUMNS * column, _GAP + i // _COLUMNS * row
        pen.text((x, y), task, fill="black")
        for place, pictures in enumerate(both):
            if pictures is not None:
                second = rearrange(pictures[min(1, len(pictures) - 1)], "c h w -> h w c")
                sheet.paste(Image.fromarray(np.ascontiguousarray(second)), (x + place * (width + 2), y + _LABEL))
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        sheet.save(temporary, "PNG", optimize=True)
    print(f"Pictures: {file}")
