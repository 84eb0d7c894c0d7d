"""Agents take the steps: a CPU, a device, an engine inside an IOMMU."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import attrs

from emu.engine.operations import Operation

Body = Callable[[], Coroutine[Any, Any, None]]


@attrs.frozen
class NotAnOperation:
    """Anything else that an agent awaited, as its coroutine yielded it to the host."""

    awaited: object


@attrs.define(eq=False)
class Agent:
    """One thread of control.

    Attributes:
        name: unique in its execution, and the name of its Trio task.
        body: called once to make the coroutine that takes the steps.
        labels: how a log names the agent, e.g. {"cpu": 0}.
        is_daemon: an execution may end while a daemon waits.
        pending: the operation announced and not yet performed; None before the start and after the end.
        announced_at: the step after which `pending` was announced.
        awaited_instead: what the agent awaited instead of an operation; only a free-running execution can serve it.
        is_cleaning: the execution has ended, and the agent runs its cleanup.
        number: its place among the agents of its execution.
        is_enabled: its execution lists it among the agents that can go on.
    """

    name: str
    body: Body = attrs.field(repr=False)
    labels: Mapping[str, object]
    is_daemon: bool = False
    coroutine: Coroutine[Any, Any, None] | None = attrs.field(default=None, repr=False)
    pending: Operation[Any] | None = None
    announced_at: int = 0
    awaited_instead: NotAnOperation | None = None
    is_done: bool = False
    is_cleaning: bool = False
    number: int = 0
    is_enabled: bool = False

    def can_step(self) -> bool:
        """Whether the agent has announced an operation that can be performed now."""
        pending = self.pending
        return pending is not None and (pending.waits_for is None or pending.waits_for.is_set)
