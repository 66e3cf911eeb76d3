"""Probes to the simulator's state: positions, angles and velocities."""

import torch
from torch import Tensor

from mindreel.encoders.probes.attentive import attentive_predictions
from mindreel.encoders.probes.regression import effective_rank, evenly_spaced, linear_predictions, mlp_predictions, r2
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites.scoring import scored

_RANK_ROWS = 1000


def state(data: ProbeData) -> list[dict]:
    """R2 of probes that read positions, angles and velocities from features, all tokens, or the newest tubelet's."""
    train, test = data.drawn(lambda rollouts: rollouts.in_view if data.in_view else None)
    if not (len(train.episode) and len(test.episode)):
        raise ValueError("No frame shows the middle of everything that moves: in_view=false probes them all.")
    names, values = train.rollouts.targets()
    y, test_y = train.of(values), test.of(test.rollouts.targets()[1])
    varies = r2(test_y, test_y) == 1  # what does not vary, such as a fixed target, cannot be scored
    names = [name for name, keep in zip(names, varies.tolist(), strict=True) if keep]
    y, test_y = y[:, varies], test_y[:, varies]
    newest, test_newest = train.newest_tokens, test.newest_tokens
    predicted = {
        "linear": linear_predictions(data.config, train.features, y, test.features),
        "mlp": mlp_predictions(data.config, train.features, y, test.features),
        "attentive": attentive_predictions(data.config, train.tokens, y, test.tokens),
        "linear on tokens": linear_predictions(data.config, newest, y, test_newest),
        "mlp on tokens": mlp_predictions(data.config, newest, y, test_newest),
    }
    rows = []
    for probe, guess in predicted.items():

        def score(weight: Tensor, guess: Tensor = guess) -> Tensor:
            each = r2(guess, test_y, weight)
            return torch.cat([each, each.nanmean(0, keepdim=True)])

        rows += scored(data, probe, [*names, "mean"], score, test.episode)
    about = {
        "effective rank": float(effective_rank(evenly_spaced(test.features, _RANK_ROWS))),
        "feature std": float(test.features.std(0).mean()),
        "frames out of view": float(1 - test.rollouts.in_view.float().mean()) if data.in_view else 0.0,
    }
    return rows + [{"probe": "features", "target": name, "score": x, "low": x, "high": x} for name, x in about.items()]
