"""Schedules: the agent of each step and the result of each choice. Replaying a schedule repeats its execution."""

from collections.abc import Sequence
from typing import Any

import attrs

from emu.engine.accesses import Access
from emu.engine.operations import Choose, Operation
from emu.engine.trace import Trace

ACCESSES_SHOWN = 4


@attrs.frozen
class Schedule:
    """The decisions of one execution.

    Attributes:
        agents: the name of the agent that took each step.
        operations: the operation of each step, as `describe_announced` names it; empty if names were not kept.
        choices: the result of each choice, in order.
    """

    agents: tuple[str, ...]
    operations: tuple[str, ...] = ()
    choices: tuple[int, ...] = ()

    @classmethod
    def of(cls, trace: Trace) -> "Schedule":
        """Return the schedule of an execution."""
        performed = list(trace.performed())
        return cls(
            tuple(agent.name for agent, _ in performed),
            tuple(trace.announced),
            tuple(operation.chosen for _, operation in performed if isinstance(operation, Choose)),
        )

    def cut(self, steps: int) -> "Schedule":
        """Return the schedule of the first steps. Choices that come later are not used."""
        return attrs.evolve(self, agents=self.agents[:steps], operations=self.operations[:steps])


def describe_announced(operation: Operation[Any], accesses: Sequence[Access]) -> str:
    """Name an operation before it is performed: its class, and its first accesses."""
    if operation.saved_accesses is not None:
        accesses = accesses[: operation.saved_accesses]
    shown = [describe_access(access) for access in accesses[:ACCESSES_SHOWN]]
    more = [f"and {len(accesses) - ACCESSES_SHOWN} more"] if len(accesses) > ACCESSES_SHOWN else []
    return " ".join([operation.saved_as or type(operation).__name__, *shown, *more])


def describe_access(access: Access) -> str:
    """Name an access: kind, space and number, or range of numbers."""
    last = "" if access.first == access.last else f"..{access.last:#x}"
    return f"{access.kind.value}:{'/'.join(access.space)}:{access.first:#x}{last}"
