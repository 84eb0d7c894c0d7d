"""Several operations in one step, for a model that is smaller than real hardware."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from emu.engine.accesses import Access
from emu.engine.operations import Operation
from emu.engine.trace import Trace
from emu.errors import InternalError

Result = TypeVar("Result")


class InlineCoroutine:
    """A coroutine that takes no steps of its own: its operations are performed inside the steps of agents.

    Attributes:
        pending: the operation announced and not yet performed; None once the coroutine has returned `result`.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], trace: Trace) -> None:
        self.coroutine = coroutine
        self.trace = trace
        self.result: Any = None
        self.pending: Operation[Any] | None = None
        self.send(None)

    def send(self, value: Any) -> None:
        """Go on to the next operation, or to the end."""
        try:
            self.pending = self.coroutine.send(value)
        except StopIteration as end:
            self.pending, self.result = None, end.value

    def perform(self, step: int) -> None:
        """Perform operations until one is disabled or the coroutine ends; the trace keeps each as a note."""
        while (operation := self.pending) is not None and (operation.waits_for is None or operation.waits_for.is_set):
            value = operation.perform(step)
            name, fields = operation.describe()
            self.trace.note(name, **fields)
            self.send(value)


class AtomicBlock(Operation[Result]):
    """A coroutine that waits for nothing, performed in one step.

    Args:
        what: the event's name.
        make: makes the coroutine.
        accesses: returns all that the coroutine may touch.
    """

    __slots__ = ("make", "touches", "trace", "what")

    saved_as = "AtOnce"

    def __init__(
        self,
        what: str,
        make: Callable[[], Coroutine[Any, Any, Result]],
        accesses: Callable[[], Iterable[Access]],
        trace: Trace,
    ) -> None:
        self.what = what
        self.make = make
        self.touches = accesses
        self.trace = trace

    def accesses(self) -> Iterable[Access]:
        return self.touches()

    def perform(self, step: int) -> Result:
        """Run the coroutine to its end.

        Raises:
            InternalError: if it waits for a latch that is not set.
        """
        inline = InlineCoroutine(self.make(), self.trace)
        inline.perform(step)
        if inline.pending is not None and inline.pending.waits_for is not None:
            raise InternalError(f"{self.what} cannot be done in one step: it waits for {inline.pending.waits_for.name}")
        result: Result = inline.result
        return result

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.what, {}
