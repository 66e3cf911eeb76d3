"""The `mindreel` command: `mindreel train ...` is `python scripts/train.py ...`, from any folder."""

import importlib
import sys

from mindreel.names import nearest

DOORS = {
    "train": "train an agent from pixels",
    "pretrain": "pretrain an encoder alone",
    "evaluate": "play episodes with a trained agent",
    "probe": "measure what encoders know",
    "ablate": "train every combination of listed settings and compare them",
    "rollouts": "write a file of rollouts",
    "export": "write a run's encoder in the format of transformers",
    "benchmark": "measure how fast environments, agent and encoder are",
    "parity": "compare every task with dm_control's own",
    "endurance": "play every task so that it might break",
}
"""Door -> what it does."""


def main() -> None:
    """Runs the door that the first argument names; exits with 2 if there is none of that name."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print("usage: mindreel COMMAND [field=value] ...\n")
        print("\n".join(f"  {door:<10} {what}" for door, what in DOORS.items()))
        print("\nmindreel COMMAND --help lists a command's settings.")
        return
    if name not in DOORS:
        print(f"error: unknown command {name!r}: {nearest(name, DOORS)}", file=sys.stderr)
        sys.exit(2)
    door = importlib.import_module(f"mindreel.scripts.{name}")
    sys.argv[0] = f"mindreel {name}"
    door.main(arguments)


if __name__ == "__main__":
    main()
