"""Further probes of what an encoder knows, one suite a file; probes of the state are in encoders/probe.py."""
