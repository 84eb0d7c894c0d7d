"""Executing commands in the step that posts them. Not architectural; it saves an agent."""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol

import attrs

from emu.engine import Access, Operation, Trace
from emu.engine.atomic import InlineCoroutine


class Commands(Protocol):
    """The commands that software has handed to a unit, by their numbers."""

    def command_in(self, slot: int) -> Any:
        """Return a command."""


@attrs.define(eq=False)
class SynchronousEngine:
    """Executes the commands of a ring by a unit's own engine.

    Attributes:
        engine: makes the engine.
        operations: returns the operations that execute the command of a slot, as if it were executed now.
    """

    ring: Commands
    engine: Callable[[], Coroutine[Any, Any, None]]
    operations: Callable[[int, Any], Iterator[Operation[Any]]]
    trace: Trace
    inline: InlineCoroutine | None = None

    def accesses(self, slots: range) -> Iterable[Access]:
        """Return every access that executing these slots may make."""
        for slot in slots:
            yield from self.accesses_of(slot, self.ring.command_in(slot))

    def accesses_of(self, slot: int, command: Any) -> Iterable[Access]:
        """Return every access that executing a command may make, once a slot has it."""
        return (access for operation in self.operations(slot, command) for access in operation.accesses())

    def execute(self, step: int) -> None:
        """Execute all posted commands."""
        if self.inline is None:
            self.inline = InlineCoroutine(self.engine(), self.trace)
        self.inline.perform(step)
