"""Packages that only some uses need: how to install them, in one sentence for every message."""

import importlib
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[1]


def install_hint(extra: str) -> str:
    """The command that installs an extra of pyproject.toml, such as "data", for a checkout or an installed package."""
    in_checkout = (_ROOT / "pyproject.toml").is_file()
    return f'pip install {"-e " if in_checkout else ""}"{_ROOT if in_checkout else "mindreel"}[{extra}]"'


def need(module: str, extra: str, what: str) -> ModuleType:
    """Imports a module that comes with an extra.

    Args:
        module: its full name, such as `pyarrow.parquet`.
        extra: the extra of pyproject.toml that installs it.
        what: what needs it, to begin the message with.

    Raises:
        ValueError: it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ValueError(f"{what} needs {package}, which is not installed: {install_hint(extra)}") from error
