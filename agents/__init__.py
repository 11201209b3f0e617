"""Who decides: agents behind one protocol, ``fit(env)`` then ``act(observations)``."""

from .base import Agent, ScenarioAgent, agent_class, list_agents, load_agent, make_agent, register_agent
from .policy import policy_agent

__all__ = [
    "Agent",
    "ScenarioAgent",
    "agent_class",
    "list_agents",
    "load_agent",
    "make_agent",
    "policy_agent",
    "register_agent",
]
