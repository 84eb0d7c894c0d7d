"""A physical CPU: the accesses that it can make, its softirqs, and the hypercalls that it serves."""

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

import attrs

from emu.cpus.percpu import PerCpu, ReadPerCpu, WritePerCpu
from emu.engine import Choose, Trace
from emu.errors import ScenarioError
from emu.memory import Load, Memory, Store

T = TypeVar("T")

Softirq = Callable[["Cpu"], Awaitable[None]]


def check_variable(variable: object) -> None:
    """Refuse anything but a per-CPU variable.

    Raises:
        ScenarioError: naming the object passed instead.
    """
    if not isinstance(variable, PerCpu):
        raise ScenarioError(f"{variable!r} is no per-CPU variable: pass the PerCpu itself, not its name")


@attrs.define(eq=False)
class Cpu:
    """One physical CPU.

    Attributes:
        values: its per-CPU variables that were written, by name.
        softirqs: the softirqs raised and not yet processed, oldest first.
        hypercalls: the hypercalls being served, innermost last.
    """

    number: int
    memory: Memory
    trace: Trace
    values: dict[str, Any] = attrs.field(factory=dict)
    softirqs: deque[Softirq] = attrs.field(factory=deque)
    hypercalls: "list[Hypercall]" = attrs.field(factory=list)

    @property
    def name(self) -> str:
        """The name of the CPU and of its agent."""
        return f"cpu{self.number}"

    def load64(self, address: int, event: str = "memory.load", **details: Any) -> Load:
        """Read a 64-bit word."""
        return Load(self.memory, address, event, details)

    def store32(self, address: int, value: int, event: str = "memory.store", **details: Any) -> Store:
        """Write 32 bits in one step."""
        return Store(self.memory, address, value, 32, event, details)

    def store64(self, address: int, value: int, event: str = "memory.store", **details: Any) -> Store:
        """Write a 64-bit word in one step."""
        return Store(self.memory, address, value, 64, event, details)

    def store128(self, address: int, value: int, event: str = "memory.store", **details: Any) -> Store:
        """Write 128 bits in one step, as cmpxchg16b does."""
        return Store(self.memory, address, value, 128, event, details)

    async def read(self, variable: PerCpu[T]) -> T:
        """Read this CPU's value of a per-CPU variable."""
        check_variable(variable)
        return await ReadPerCpu(variable, self.number, self.values)

    async def write(self, variable: PerCpu[T], value: T) -> None:
        """Write this CPU's value of a per-CPU variable."""
        check_variable(variable)
        await WritePerCpu(variable, self.number, self.values, value)

    def peek(self, variable: PerCpu[T]) -> T:
        """Return this CPU's value of a variable without a step. For checks and the emulator's own bookkeeping."""
        value: T = self.values.get(variable.name, variable.initial)
        return value

    def poke(self, variable: PerCpu[T], value: T) -> None:
        """Change this CPU's value of a variable without a step. For the emulator's own bookkeeping."""
        self.values[variable.name] = value

    def note(self, event: str, **fields: Any) -> None:
        """Add a note to the trace."""
        self.trace.note(event, **fields)

    def raise_softirq(self, handler: Softirq) -> None:
        """Have `handler` run when this CPU next processes its softirqs."""
        self.softirqs.append(handler)
        self.note("softirq.raise", handler=getattr(handler, "__name__", "handler"))

    async def process_pending_softirqs(self) -> None:
        """Run this CPU's softirqs, oldest first, with those that they raise (Xen: process_pending_softirqs)."""
        while self.softirqs:
            handler = self.softirqs.popleft()
            self.note("softirq.run", handler=getattr(handler, "__name__", "handler"))
            await handler(self)

    async def preempt_check(self) -> bool:
        """Choose whether something more urgent waits for the CPU (Xen: hypercall_preempt_check)."""
        return bool(await Choose("hypercall_preempt_check", 2))

    def create_continuation(self) -> None:
        """Have the present hypercall end before its work is done (Xen: hypercall_create_continuation).

        Raises:
            ScenarioError: if the CPU serves no hypercall.
        """
        if not self.hypercalls:
            raise ScenarioError(f"{self.name} serves no hypercall: write `async with cpu.hypercall(...)` around it")
        self.hypercalls[-1].is_continued = True

    def hypercall(self, name: str) -> "Hypercall":
        """Return a context in which the CPU serves a hypercall; softirqs run on the way out, as in Xen."""
        return Hypercall(self, name)


@attrs.define(eq=False)
class Hypercall:
    """The time in which a CPU serves one hypercall.

    Attributes:
        is_continued: it ends before its work is done, and the guest will make it again (-ERESTART).
        deferred: work put off until its end, in the caller's own form.
        before_return: does that work, last of all, after the softirqs.
    """

    cpu: Cpu
    name: str
    is_continued: bool = False
    deferred: list[Any] = attrs.field(factory=list)
    before_return: "Callable[[Hypercall], Awaitable[None]] | None" = None

    async def __aenter__(self) -> Cpu:
        self.cpu.note("hypercall.enter", hypercall=self.name)
        self.cpu.hypercalls.append(self)
        return self.cpu

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cpu.note("hypercall.exit", hypercall=self.name, **({"continued": True} if self.is_continued else {}))
        try:
            if error is None:
                await self.cpu.process_pending_softirqs()
                if self.before_return is not None:
                    await self.before_return(self)
        finally:
            self.cpu.hypercalls.remove(self)


@attrs.define(eq=False)
class BootCode(Hypercall):
    """The time in which a CPU runs code that fills tables while Xen boots. It is no hypercall: no softirqs at its end.

    What it puts off is due when it ends.
    """

    async def __aenter__(self) -> Cpu:
        self.cpu.hypercalls.append(self)
        return self.cpu

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None and self.before_return is not None:
                await self.before_return(self)
        finally:
            self.cpu.hypercalls.remove(self)
