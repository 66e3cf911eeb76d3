"""Train an agent from pixels: collect, pretrain the encoder, learn, plan, evaluate, and write a report.

python scripts/train.py preset=demo
python scripts/train.py task=walker-walk device=cuda
python scripts/train.py resume=runs/demo
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mindreel import assembly, cli
from mindreel.devices import check_device, use_tensor_cores
from mindreel.run_config import GROUPS, TrainConfig, current_names
from mindreel.runs.artifacts import write_artifacts
from mindreel.runs.evaluation import evaluator
from mindreel.runs.folder import find_run, start_run, tell_how_to_go_on
from mindreel.runs.metrics import MetricsLog
from mindreel.runs.progress import RunProgress


def run(config: TrainConfig) -> None:
    """Trains an agent from pixels, evaluates it and writes a report."""
    start = time.monotonic()
    device = check_device(config.device)
    folder = find_run(config)
    print(f"{config.task} on {device}, into {folder}/")
    parts = assembly.build(config)
    assembly.prepare(config, parts)
    start_run(folder, config)
    log = MetricsLog(folder)
    checkpoint = folder / "checkpoints" / "last.pt"
    trainer = assembly.build_trainer(
        config,
        parts,
        log,
        RunProgress(),
        checkpoint,
        evaluate=evaluator(config, parts),
        log_lines=log.lines,
    )
    try:
        if config.resume:
            log.truncate(trainer.load()["log_lines"])
            print(f"Resumed at {trainer.decisions} decisions and {trainer.updates} updates.")
        trainer.add_time("setup", time.monotonic() - start)
        trainer.run()
    except KeyboardInterrupt:
        tell_how_to_go_on("train", folder)
        raise
    finally:
        log.close()
    write_artifacts(config, parts, trainer, Path(folder))


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and runs."""
    use_tensor_cores()
    cli.main(run, TrainConfig, GROUPS, base="resume", argv=current_names(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
