"""The calls that change a domain's p2m on Arm, where the units translate by it, too, as callers make them.

They promise what a map and an unmap promise, and they cannot put a flush off.
"""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.boot_calls import BootCalls
from emu.hypervisor.calls import check_order, check_range
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.p2m_types import P2mType
from emu.units import Dfn, Mfn, page_count


@attrs.frozen
class P2mCalls(BootCalls):
    """All calls that one revision implements, with those of Arm."""

    async def guest_physmap_add_entry(
        self,
        cpu: Cpu,
        domain: Domain,
        gfn: Dfn,
        mfn: Mfn,
        *,
        page_order: int = 0,
        p2m_type: P2mType = P2mType.RAM_RW,
    ) -> int:
        """Map 2^page_order pages of a domain, for its CPUs and its devices; return 0 or a negative errno.

        (Xen: arch/arm/p2m.c, guest_physmap_add_entry)

        Raises:
            ScenarioError: if gfn or mfn is not aligned to the order, or a gfn is beyond the reach of the tables.
        """
        check_types(cpu, domain)
        check_range(domain, gfn, page_order)
        check_order("mfn", mfn, page_order)
        record = self.open(cpu, "guest_physmap_add_entry", domain, gfn, page_count(page_order))
        record.mapped = (mfn, p2m_type.flags)
        function = self.revision.function("guest_physmap_add_entry")
        return await self.close(record, function, cpu, domain, gfn, mfn, page_order, p2m_type)

    async def guest_physmap_remove_page(
        self, cpu: Cpu, domain: Domain, gfn: Dfn, mfn: Mfn, *, page_order: int = 0
    ) -> int:
        """Unmap 2^page_order pages of a domain; return 0 or a negative errno.

        (Xen: arch/arm/p2m.c, guest_physmap_remove_page)

        Args:
            mfn: the frame that the caller has found there. Until 5a4a2cef08 (2022) nothing looks at it.

        Raises:
            ScenarioError: as `guest_physmap_add_entry`.
        """
        check_types(cpu, domain)
        check_range(domain, gfn, page_order)
        record = self.open(cpu, "guest_physmap_remove_page", domain, gfn, page_count(page_order))
        function = self.revision.function("guest_physmap_remove_page")
        return await self.close(record, function, cpu, domain, gfn, mfn, page_order)
