"""A typed config from the command line, help, and errors in one line.

A command declares a frozen dataclass with a sentence as a string under each field, and the choices of its groups:
`main(run, TrainConfig, {"encoder": {"vjepa": VJEPAConfig, "cnn": CNNConfig}})`.

Values come from, each over the one before: the dataclasses' defaults, `preset=NAME` or a saved run, the command line.
A preset is a partial config.yaml, in which a group holds its choice under `name`. Its values for a group hold only
while that choice stands; a key such as `encoder/cnn` holds values for another choice.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mindreel.cli import help
from mindreel.cli.composing import PRESETS, Groups, choice_name, compose, config_file, from_dict, load, save, to_dict
from mindreel.cli.fields import walk
from mindreel.cli.text import assigned, dump, read

__all__ = ["assigned", "choice_name", "compose", "config_file", "from_dict", "load", "main", "read", "save", "to_dict"]
__all__ += ["walk"]


def main(
    run: Callable[[Any], None],
    cls: type,
    groups: Groups | None = None,
    *,
    base: str = "",
    presets: Path = PRESETS,
    argv: Sequence[str] | None = None,
) -> None:
    """Calls `run(config)` with the config that the arguments ask for, or answers `--help` and `--config`.

    The docstring of `run`'s module opens the help; for the rest see `compose`. Exits with 2 and one line on a user's
    mistake, with 130 when interrupted. `MINDREEL_DEBUG=1` shows tracebacks.
    """
    arguments, groups, hint = list(sys.argv[1:] if argv is None else argv), groups or {}, ""
    try:
        if "--help" in arguments:
            wanted = arguments[arguments.index("--help") + 1 :]
            description = sys.modules[run.__module__].__doc__ or ""
            print(help.details(wanted[0], cls, groups) if wanted else help.page(description, cls, groups, presets))
            return
        config = compose(cls, groups, [one for one in arguments if one != "--config"], base=base, presets=presets)
        if "--config" in arguments:
            print(dump(to_dict(config, groups)), end="")
            return
        hint = " (MINDREEL_DEBUG=1 shows where)"  # a mistake in the arguments explains itself
        run(config)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("MINDREEL_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}{hint}", file=sys.stderr)
        sys.exit(2)
