"""The write lock of a p2m, and the flush of the CPUs' TLBs that its last holder has put off (Xen: arch/arm/p2m.c)."""

from types import TracebackType
from typing import Self

import attrs

from emu.cpus import Cpu
from emu.cpus.tlb import FlushCpuTlb
from emu.engine.locks import Held
from emu.errors import InternalError
from emu.hypervisor.domain import Domain


@attrs.define(eq=False)
class P2mWrite:
    """A context in which a CPU holds the lock (Xen: arch/arm/p2m.c, p2m_write_lock and p2m_write_unlock).

    Attributes:
        need_flush: the CPUs' TLBs may hold an entry that was cleared; they are flushed before the lock is dropped.
    """

    cpu: Cpu
    domain: Domain
    held: Held
    need_flush: bool = False

    async def __aenter__(self) -> Self:
        await self.held.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await p2m_tlb_flush_sync(self)
        await self.held.__aexit__(kind, error, traceback)


def p2m_write_lock(cpu: Cpu, domain: Domain) -> P2mWrite:
    """Return a context in which a CPU holds the write lock of a domain's p2m."""
    return P2mWrite(cpu, domain, domain.p2m_lock.held(cpu))


async def p2m_force_tlb_flush_sync(p2m: P2mWrite) -> None:
    """Flush all that the CPUs have cached of the domain, on all of them. No SMMU listens (sCR0.PTM is set).

    Raises:
        InternalError: if the domain's table is not one of CPUs.
    """
    tlb = p2m.domain.cpu_tlb
    if tlb is None:
        raise InternalError(f"domain {p2m.domain.number} has no p2m")
    await FlushCpuTlb(tlb)
    p2m.need_flush = False


async def p2m_tlb_flush_sync(p2m: P2mWrite) -> None:
    """Flush if an entry was cleared that CPUs may have cached (Xen: arch/arm/p2m.c, p2m_tlb_flush_sync)."""
    if p2m.need_flush:
        await p2m_force_tlb_flush_sync(p2m)
