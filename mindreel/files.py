"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """An empty file beside `path` to write to; it takes `path`'s name when the block ends without an error.

    Nobody who reads `path` ever sees half a file, a failed write leaves the old one as it was, and several may write
    at once: the last one counts. Only a process that is killed leaves a `.NAME.*.partial` behind.

    Raises:
        FileNotFoundError: there is no such folder.
        IsADirectoryError: `path` is a folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb+") as file:  # else a crash of the machine could leave the name without the content
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all; raises what `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
