"""Prediction of later features from actions."""

from mindreel.encoders.probes.dynamics import HORIZONS, prediction_errors
from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites.scoring import scored


def dynamics(data: ProbeData) -> list[dict]:
    """Squared error of the predictor divided by that of predicting no change."""
    z = data.components(data.features(data.test))
    error, still, episode = prediction_errors(data.predictor, z, data.test.action.to(data.device))
    targets = [f"{h} step{'s' if h > 1 else ''}" for h in HORIZONS[: error.shape[1]]]
    return scored(data, "predictor", targets, lambda w: (w @ error) / (w @ still).clamp(min=1e-12), episode)
