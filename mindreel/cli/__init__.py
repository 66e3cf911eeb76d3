"""What the scripts share: a typed config from the command line, help, and errors in one line.

A script declares a frozen dataclass and the choices of its groups, and calls `main`:

    @dataclass(frozen=True)
    class TrainConfig:
        task: str = "cartpole-swingup"
        \"\"\"Task to learn, as domain-task.\"\"\"
        encoder: Any = VJEPAConfig()

    cli.main(run, TrainConfig, {"encoder": {"vjepa": VJEPAConfig, "cnn": CNNConfig}})

Values come from, each over the one before: the dataclasses' defaults, `preset=NAME` or a saved
run, the command line. Hydra composes them; types are checked here, so that errors are ours.
A preset is a partial config.yaml, in the format that `save` writes: a group holds its choice under
`name`. Its values for a group hold only while that choice stands; a key such as `encoder/cnn`
holds values for another choice.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mindreel.cli import composing, schema
from mindreel.cli.composing import Groups

PRESETS = Path(__file__).parents[1] / "scripts" / "presets"


def main(
    run: Callable[[Any], None],
    config_cls: type,
    groups: Groups | None = None,
    *,
    base: str | None = None,
    presets: Path = PRESETS,
    argv: Sequence[str] | None = None,
) -> None:
    """Compose the config from the command line, call `run(config)`, and report errors in one line.

    Args:
        run: the script's work; its module's docstring opens the help.
        config_cls: frozen dataclass of the script's fields. A group's field holds an instance of
            its default choice.
        groups: group -> choice -> frozen dataclass.
        base: the field that names a run folder; when it is given, that run's config.yaml lies
            under the command line in place of the defaults and a preset.
        presets: folder of the preset files.
        argv: arguments, of the process if not given.

    Exits with 2 on a user's mistake and with 130 when interrupted. `MINDREEL_DEBUG=1` shows tracebacks.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    groups = groups or {}
    running = False
    try:
        if "--help" in arguments or "-h" in arguments:
            from mindreel.cli import usage  # only here: help is the one that needs it

            print(usage.text(run, config_cls, groups, presets))
            return
        shown = [one for one in arguments if one != "--config"]
        config = compose(config_cls, groups, shown, base=base, presets=presets)
        if len(shown) < len(arguments):
            print(_yaml(to_dict(config, groups)), end="")
            return
        running = True
        run(config)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        if os.environ.get("MINDREEL_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        # A mistake in the arguments explains itself; one found at work may need its place.
        hint = " (MINDREEL_DEBUG=1 shows where)" if running else ""
        print(f"error: {error}{hint}", file=sys.stderr)
        sys.exit(2)


def compose(
    config_cls: type,
    groups: Groups,
    overrides: Sequence[str] = (),
    *,
    base: str | None = None,
    presets: Path = PRESETS,
) -> Any:
    """The config that `overrides` (`field=value`, `group=choice`, `preset=name`) ask for.

    Raises:
        ValueError: an unknown field, choice or preset, or a value of the wrong type.
        FileNotFoundError: the run named by the `base` field has no config.yaml.
    """
    parsed = composing.parse(overrides, groups)
    layer, source = composing.read_layer(parsed, base, presets)
    kind = ""
    if layer.get("data") and "data" not in schema.names(config_cls):
        kind = f"pretrained on data={layer['data']}"
    elif base in parsed.fields and "rollouts" in layer:
        kind = "that scripts/probe.py trained for its table"
    if kind:
        raise ValueError(
            f"{source}: that run is an encoder {kind}, without an agent or a replay. "
            f"Start from it with encoder_from={Path(source).parent}."
        )
    return composing.compose(config_cls, groups, parsed, layer, source)


def load(path: Path | str, config_cls: type, groups: Groups, overrides: Sequence[str] = ()) -> Any:
    """The config saved in a file, or in a run folder's config.yaml, with overrides over it."""
    parsed = composing.parse(overrides, groups)
    if parsed.preset is not None:
        raise ValueError(f"preset={parsed.preset} cannot be laid over a saved run")
    path = composing.config_file(path)
    return composing.compose(config_cls, groups, parsed, composing.read(path), str(path))


def save(config: Any, groups: Groups, path: Path | str, leave_out: Sequence[str] = ()) -> None:
    """Write the config as YAML that `load` and `base` read back to equal dataclasses.

    Args:
        config: an instance of the script's dataclass.
        groups: the script's groups; each one's choice is written as `name`.
        path: the file; it is replaced whole or not at all.
        leave_out: fields that belong to the call and not to the run, such as `overwrite`.
    """
    values = {key: value for key, value in to_dict(config, groups).items() if key not in leave_out}
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(_yaml(values), encoding="utf-8")
    os.replace(partial, path)


def to_dict(config: Any, groups: Groups) -> dict[str, Any]:
    """The config as plain values, each group with its choice's name first."""
    values = schema.plain(config)
    for group, choices in groups.items():
        values[group] = {"name": composing.choice(getattr(config, group), choices), **values[group]}
    return values


def _yaml(values: Mapping[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))
