"""Changes of the table by which CPUs translate, with the IOMMU's (Xen: arch/x86/mm/p2m.c)."""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.physmap import WriteP2m
from emu.units import Dfn, Mfn


async def set_identity_p2m_entry(cpu: Cpu, domain: Domain, dfn: Dfn) -> int:
    """Map a page of a translated domain to the frame of its number (Xen: arch/x86/mm/p2m.c, set_identity_p2m_entry).

    The p2m_lock is held across the call that maps it for the IOMMU, and that call's flush.
    """
    async with domain.p2m_lock.held(cpu):
        await WriteP2m(domain, dfn, Mfn(dfn))
        return await domain.calls.map(cpu, domain, dfn, Mfn(dfn))
