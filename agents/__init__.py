"""Agents: replay, learning, planning and the training loop."""

from mindreel.agents.actor_critic import ActorCriticAgent, ActorCriticConfig
from mindreel.agents.learner import Learner
from mindreel.agents.mpc import MPCAgent, MPCConfig

AGENTS: dict[str, tuple[type, type[Learner]]] = {
    "mpc": (MPCConfig, MPCAgent),
    "actor_critic": (ActorCriticConfig, ActorCriticAgent),
}
"""Name -> config and class. A class takes (config, model, discount, encoder_parameters)."""


def make_agent(config, model, discount: float, encoder_parameters=None) -> Learner:
    """The agent that a config of `AGENTS` describes."""
    for config_type, agent_type in AGENTS.values():
        if type(config) is config_type:
            return agent_type(config, model, discount, encoder_parameters)
    raise ValueError(f"No agent is built from {type(config).__name__}.")
