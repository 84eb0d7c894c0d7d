"""Roles: the function that a CPU or a device runs."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Agent
from emu.errors import ScenarioError

Actor = TypeVar("Actor", Cpu, Device)
Body = Callable[..., Awaitable[None]]

WITNESS = " (witness)"
"""The end of a witness's name."""


@attrs.frozen
class Role(Generic[Actor]):
    """A CPU or a device that has no function to run yet; decorates an async function, or is given one."""

    add_agent: Callable[[Agent], None]
    actor: Actor
    agent_name: str
    labels: dict[str, object]

    def __call__(self, body: Body) -> Body:
        """Have the actor run the decorated function."""
        self.runs(body)
        return body

    def runs(self, body: Body, *arguments: Any) -> None:
        """Have the actor run `body(actor, *arguments)`.

        Raises:
            ScenarioError: if the body is not an async function, or the actor has something to do already.
        """
        if not inspect.iscoroutinefunction(body):
            raise ScenarioError(
                f"{self.agent_name} was given {body!r}: write `async def`, because an agent takes steps"
            )
        self.add_agent(Agent(self.agent_name, lambda: body(self.actor, *arguments), self.labels))


def is_witness(agent: Agent) -> bool:
    """Whether an agent was added to a machine in order to use a stale translation."""
    return agent.name.endswith(WITNESS)
