"""The registers by which software asks for invalidations, and waits for them (IHI 0062, chapter 10).

TLBIVMID and TLBIALLNSNH ask for an invalidation; nothing says when that has completed. sTLBGSYNC asks for the
completion of all invalidations that were accepted before it, and GSACTIVE in sTLBGSTATUS reads as 1 until every
synchronisation that was asked for has completed. So the synchronisation of one CPU may prolong the wait of another.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.engine import Access, Kind, Latch, Operation, Space, Wait
from emu.iommus.counters import WAIT, Counters
from emu.iommus.ring import Engine

SYNC = -1
"""Stands for a synchronisation among the VMIDs that were asked for."""

ALL = -2
"""Stands for an invalidation of every VMID (TLBIALLNSNH)."""

VMID_MAX = 0xFF


def about(asked: int) -> dict[str, Any]:
    """Return what was asked for as keys of an event."""
    if asked == SYNC:
        return {"descriptor": WAIT}
    return {"descriptor": "vmid", "granularity": "domain", "tag": asked} if asked != ALL else {"descriptor": "all"}


@attrs.define(eq=False)
class TlbRegisters:
    """What software has asked a unit for, in the order in which the unit has accepted it.

    Attributes:
        asked: the VMID of each invalidation; `ALL`, or `SYNC`.
        accepted: latches "number n is asked for".
        completed: latches "the synchronisation with number n has completed".
        active: how many synchronisations have not completed.
        at_once: executes what is asked for in the same step; None if the unit has an agent for it.
    """

    unit: str
    counters: Counters
    asked: list[int] = attrs.field(factory=list)
    accepted: dict[int, Latch] = attrs.field(factory=dict)
    completed: dict[int, Latch] = attrs.field(factory=dict)
    active: int = 0
    at_once: Engine | None = None

    @property
    def space(self) -> Space:
        """The space of the shared objects: whether number n is asked for."""
        return ("tlb_registers", self.unit)

    def order(self, kind: Kind) -> Access:
        """Return the access to the order in which they are written."""
        return Access.to((*self.space, "order"), 0, kind)

    def status(self, kind: Kind) -> Access:
        """Return the access to sTLBGSTATUS."""
        return Access.to((*self.space, "status"), 0, kind)

    def command_in(self, slot: int) -> int | None:
        """Return what was asked for as number `slot`; None if nothing was yet."""
        return self.asked[slot] if slot < len(self.asked) else None

    def latch(self, slot: int) -> Latch:
        """Return the latch that is set when number `slot` is asked for."""
        if slot not in self.accepted:
            touch = Access.to(self.space, slot, Kind.READ)
            self.accepted[slot] = Latch(f"request {slot} to {self.unit}'s TLB", touch)
        return self.accepted[slot]

    def sync_latch(self, slot: int) -> Latch:
        """Return the latch that is set when the synchronisation with number `slot` has completed."""
        if slot not in self.completed:
            touch = Access.to((*self.space, "completed"), slot, Kind.READ)
            self.completed[slot] = Latch(f"synchronisation {slot} of {self.unit}'s TLB", touch)
        return self.completed[slot]


class WriteTlbRegister(Operation[None]):
    """Write TLBIVMID, TLBIALLNSNH or sTLBGSYNC.

    Args:
        asked: the VMID, `ALL` or `SYNC`.
    """

    __slots__ = ("asked", "registers", "slot")

    event = "queue.post"

    def __init__(self, registers: TlbRegisters, asked: int) -> None:
        self.registers = registers
        self.asked = asked
        self.slot = 0

    def accesses(self) -> Iterable[Access]:
        registers, slot = self.registers, len(self.registers.asked)
        yield registers.order(Kind.WRITE)
        yield Access.to(registers.space, slot, Kind.WRITE)
        if self.asked == SYNC:
            yield registers.status(Kind.WRITE)
        if registers.at_once is not None:
            yield from registers.at_once.accesses_of(slot, self.asked)

    def perform(self, step: int) -> None:
        registers = self.registers
        self.slot = len(registers.asked)
        registers.asked.append(self.asked)
        is_sync = self.asked == SYNC
        registers.active += is_sync
        registers.counters.register_writes += 1
        registers.counters.post(about(self.asked)["descriptor"], is_flush=not is_sync)
        registers.latch(self.slot).set(step)
        if registers.at_once is not None:
            registers.at_once.execute(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.registers.unit, "slot": self.slot}


class Accept(Wait):
    """Take the next request once it is asked for."""

    __slots__ = ("asked", "registers", "slot")

    event = "queue.fetch"

    def __init__(self, registers: TlbRegisters, slot: int) -> None:
        super().__init__(registers.latch(slot))
        self.registers = registers
        self.slot = slot
        self.asked = 0

    def perform(self, step: int) -> None:
        self.asked = self.registers.asked[self.slot]

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.registers.unit, "slot": self.slot, **about(self.asked)}


class LookAhead(Operation[bool]):
    """Look whether a further request is asked for already."""

    __slots__ = ("found", "registers", "slot")

    event = "queue.look"

    def __init__(self, registers: TlbRegisters, slot: int) -> None:
        self.registers = registers
        self.slot = slot
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.registers.space, self.slot, Kind.READ),)

    def perform(self, step: int) -> bool:
        self.found = self.slot < len(self.registers.asked)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.registers.unit, "slot": self.slot, "found": self.found}


class CompleteSync(Operation[None]):
    """Complete a synchronisation: GSACTIVE reads as 0 unless another one is left."""

    __slots__ = ("left", "registers", "slot")

    event = "queue.complete"

    def __init__(self, registers: TlbRegisters, slot: int) -> None:
        self.registers = registers
        self.slot = slot
        self.left = 0

    def accesses(self) -> Iterable[Access]:
        yield self.registers.status(Kind.WRITE)
        yield self.registers.sync_latch(self.slot).touch._replace(kind=Kind.WRITE)

    def perform(self, step: int) -> None:
        self.registers.active -= 1
        self.left = self.registers.active
        self.registers.sync_latch(self.slot).set(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.registers.unit, "slot": self.slot, "active": self.left}


class ReadTlbStatus(Operation[Latch | None]):
    """Read sTLBGSTATUS; None if GSACTIVE is clear, else the latch of the last synchronisation that was asked for.

    A CPU that polls sees nothing new before that one has completed.
    """

    __slots__ = ("active", "registers")

    event = "queue.active"

    def __init__(self, registers: TlbRegisters) -> None:
        self.registers = registers
        self.active = 0

    def accesses(self) -> Iterable[Access]:
        return (self.registers.status(Kind.READ),)

    def perform(self, step: int) -> Latch | None:
        registers = self.registers
        registers.counters.register_reads += 1
        self.active = registers.active
        if not self.active:
            return None
        last = max(slot for slot, asked in enumerate(registers.asked) if asked == SYNC)
        return registers.sync_latch(last)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.registers.unit, "active": self.active}
