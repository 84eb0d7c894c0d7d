"""Spinlocks. As in Xen (common/spinlock.c) they are ticket locks."""

from collections.abc import Iterable

from emu.cpus.cpu import Cpu
from emu.engine import Access, TicketLock
from emu.engine.locks import Held


class SpinLock(TicketLock):
    """A lock that CPUs hold."""

    def held(self, cpu: Cpu, around: Iterable[Access] | None = None) -> Held:
        """Return a context in which the CPU holds the lock; `around` as `TicketLock.held_by` takes it."""
        return self.held_by(cpu.name, around)
