"""Probes of what an encoder knows, one kind a file; those of the simulator's state are in regression.py."""
