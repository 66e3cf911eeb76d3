"""The suites of probes: from an encoder and rollouts to rows of scores with intervals.

A new suite is one file here and one line in `SUITES`.
"""

from collections.abc import Callable

from mindreel.probing.probe_data import ProbeData
from mindreel.probing.suites.anomaly_suite import anomaly
from mindreel.probing.suites.dynamics_suite import dynamics
from mindreel.probing.suites.frontend_suite import frontend
from mindreel.probing.suites.recognition_suite import recognition
from mindreel.probing.suites.retrieval_suite import retrieval
from mindreel.probing.suites.state_suite import state

SUITES: dict[str, Callable[[ProbeData], list[dict]]] = {
    "state": state,
    "recognition": recognition,
    "retrieval": retrieval,
    "anomaly": anomaly,
    "frontend": frontend,
    "dynamics": dynamics,
}
"""Name -> suite."""
