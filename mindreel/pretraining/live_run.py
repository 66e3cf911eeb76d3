"""A run that collects rollouts of noise and pretrains an encoder on them; train.py can continue from it."""

import time

from mindreel import assembly
from mindreel.pretraining.closing import has_more_steps, print_throughput, write_summary
from mindreel.probing.printing import print_probes
from mindreel.probing.run_probes import probe_table
from mindreel.run_config import TrainConfig
from mindreel.runs.folder import find_run, start_run, tell_how_to_go_on
from mindreel.runs.metrics import MetricsLog
from mindreel.runs.progress import RunProgress


def pretrain_on_worlds(config: TrainConfig, leave_out: tuple[str, ...]) -> list[dict]:
    """Collects rollouts, pretrains the config's encoder on them, and returns the rows of the probe table.

    Args:
        config: the run's.
        leave_out: its fields that the saved config lacks, so that train.py can read it.
    """
    start = time.monotonic()
    folder = find_run(config, "pretrain")
    parts = assembly.build(config)
    assembly.prepare(config, parts)
    start_run(folder, config, leave_out=leave_out)
    print(f"{config.task} on {parts.env.device}, into {folder}/")
    log = MetricsLog(folder)
    checkpoint = folder / "checkpoints" / "last.pt"
    trainer = assembly.build_trainer(
        config, parts, log, RunProgress(), checkpoint, log_lines=log.lines, monitor_forgetting=True
    )
    try:
        if config.resume:
            log.truncate(trainer.load()["log_lines"])
        if trainer.pretrained:
            # Not once an agent has learned to read its features.
            total = 0 if trainer.updates else trainer.encoder_phases.planned(config.pretrain.steps)
            assert parts.pretrainer is not None
            if has_more_steps(config, folder, parts.pretrainer.step, total, leave_out):
                trainer.extend_pretraining()
        trainer.add_time("setup", time.monotonic() - start)
        trainer.prepare()
    except KeyboardInterrupt:
        tell_how_to_go_on("pretrain", folder)
        raise
    finally:
        log.close()
    speed = trainer.encoder_phases.throughput()
    print_throughput(speed)
    probes = probe_table(config, parts, trainer.replay, None)
    counts = {"env_frames": trainer.env_frames, "updates": trainer.updates}
    write_summary(config, folder, trainer.wall_time, counts, speed, probes)
    print_probes(probes)
    print(f"Checkpoint: {checkpoint}\nTrain an agent with it: python scripts/train.py resume={folder}")
    return probes
