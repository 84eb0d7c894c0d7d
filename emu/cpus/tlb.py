"""The TLBs of the CPUs, which cache the stage-2 tables of a domain (Arm; DDI 0487, D8.16).

What they hold is not modelled, only when all of it was last dropped: that decides whether a CPU may still translate by
an entry that was cleared.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from emu.engine import Access, Kind, Operation, Space


@attrs.define(eq=False)
class CpuTlb:
    """What the TLBs of all CPUs hold of one domain.

    Attributes:
        domain: the number of the domain.
        flushed: the step at which all of it was last dropped; 0 before the first time.
    """

    domain: int
    flushed: int = 0

    @property
    def space(self) -> Space:
        """The space of its one shared object."""
        return ("cpu_tlb", f"d{self.domain}")

    def access(self, kind: Kind) -> Access:
        """Return the access to it."""
        return Access.to(self.space, 0, kind)


class FlushCpuTlb(Operation[None]):
    """Drop all that any CPU has cached of a domain, and wait until it is dropped (TLBI VMALLS12E1IS, then DSB)."""

    __slots__ = ("tlb",)

    event = "cpu_tlb.flush"

    def __init__(self, tlb: CpuTlb) -> None:
        self.tlb = tlb

    def accesses(self) -> tuple[Access, ...]:
        return (self.tlb.access(Kind.WRITE),)

    def perform(self, step: int) -> None:
        self.tlb.flushed = step

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.tlb.domain}
