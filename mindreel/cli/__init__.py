"""A typed config from the command line, help, and errors in one line.

A command declares a frozen dataclass with a sentence as a string under each field, and the choices of its groups:

    main(run, TrainConfig, {"encoder": {"vjepa": VJEPAConfig, "cnn": CNNConfig}})

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
from mindreel.cli.fields import field_names
from mindreel.cli.notation import assigned, dump, read, spread

__all__ = [
    "PRESETS", "Groups", "assigned", "choice_name", "compose", "config_file", "field_names", "from_dict", "load",
    "main", "read", "save", "spread", "to_dict",
]  # fmt: skip
_MISTAKES = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def main(
    run: Callable[[Any], None],
    config_cls: type,
    groups: Groups | None = None,
    *,
    base: str | None = None,
    presets: Path = PRESETS,
    argv: Sequence[str] | None = None,
    check: Callable[[Any], None] | None = None,
) -> None:
    """Composes the config from the arguments and calls `run(config)`, or answers `--help` and `--config`.

    Args:
        run: the command's work; its module's docstring opens the help.
        config_cls, groups, base, presets: as for `compose`.
        argv: arguments, of the process if not given.
        check: refuses a config with a ValueError before anything is made.

    Exits with 2 and one line on a user's mistake, with 130 when interrupted. `MINDREEL_DEBUG=1` shows tracebacks.
    """
    arguments, groups, hint = list(sys.argv[1:] if argv is None else argv), groups or {}, ""
    try:
        if asked := {"--help", "-h"}.intersection(arguments):
            wanted = "".join(arguments[arguments.index(asked.pop()) + 1 :][:1])
            if wanted and ("=" not in wanted or wanted.partition("=")[0] in groups):
                return print(help.details(wanted, config_cls, groups))
            return print(help.page(run, config_cls, groups, presets))
        overrides = [one for one in arguments if one != "--config"]
        config = compose(config_cls, groups, overrides, base=base, presets=presets)
        if check:
            check(config)
        if "--config" in arguments:
            return print(dump(to_dict(config, groups)), end="")
        hint = " (MINDREEL_DEBUG=1 shows where)"  # a mistake in the arguments explains itself
        run(config)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except _MISTAKES as error:
        if os.environ.get("MINDREEL_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}{hint}", file=sys.stderr)
        sys.exit(2)
