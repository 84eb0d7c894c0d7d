"""The calls that fill a domain's tables, as the toolstack or Xen's boot code makes them, whatever the revision.

Those for the hardware domain return nothing: a failure is told by logging it. What they put off is due when they
return.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from emu.cpus import BootCode, Cpu
from emu.errors import ScenarioError
from emu.hypervisor.calls import Calls, check_range
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.page_list import INVALID_GFN, ListName, PageType
from emu.hypervisor.records import CallRecord
from emu.units import Dfn, Mfn, offset

Wanted = dict[Dfn, tuple[Mfn, MapFlags]]


@attrs.frozen
class BootCalls(Calls):
    """All calls that one revision implements.

    Attributes:
        interrupted: the call of each domain's populate that returned -ERESTART, by the domain's number.
    """

    interrupted: dict[int, CallRecord] = attrs.field(factory=dict)

    async def hwdom_init(self, cpu: Cpu, domain: Domain) -> None:
        """Fill the hardware domain's tables: with its own pages, then as the driver does (Xen: iommu_hwdom_init)."""
        pages = domain.page_list if domain.need_sync else None
        wanted: Wanted = {}
        for mfn in pages.lists[ListName.PAGES] if pages is not None else ():
            is_writable = pages is not None and pages.types[mfn].value is not PageType.TABLE
            wanted[domain.page_list.gfns[mfn]] = (mfn, READ_WRITE if is_writable else MapFlags.READABLE)
        await self.fill(cpu, "hwdom_init", domain, wanted, self.revision.function("iommu_hwdom_init"))

    async def arch_hwdom_init(self, cpu: Cpu, domain: Domain) -> None:
        """Map what else the hardware domain may reach (Xen: x86/iommu.c, arch_iommu_hwdom_init)."""
        pages = (Dfn(page) for page in range(domain.boot.pages) if domain.boot.maps(Dfn(page)))
        is_own = not (domain.is_passthrough or domain.boot.is_translated)
        wanted: Wanted = {page: (Mfn(page), READ_WRITE) for page in pages} if is_own else {}
        function = self.revision.function("arch_iommu_hwdom_init")
        await self.fill(cpu, "arch_hwdom_init", domain, wanted, function)

    async def populate(self, cpu: Cpu, domain: Domain) -> int:
        """Map a domain's pages, in one pass; -ERESTART if more are left (Xen: arch_iommu_populate_page_table).

        The pass that returns 0 promises for all passes.
        """
        check_types(cpu, domain)
        before = self.interrupted.pop(domain.number, None)
        pages, wanted = domain.page_list, dict(before.wanted) if before else {}
        for mfn in pages.lists[ListName.PAGES]:
            gfn = pages.gfns[mfn]
            if gfn != INVALID_GFN and (domain.is_hvm or pages.types[mfn].value is PageType.WRITABLE):
                wanted[gfn] = (mfn, READ_WRITE)
        record = self.open_wanted(cpu, "populate", domain, wanted)
        if before is not None:
            record.updates.update(before.updates)
        result = await self.close(record, self.revision.function("arch_iommu_populate_page_table"), cpu, domain)
        if record.is_interrupted:
            self.interrupted[domain.number] = record
        return result

    async def reserve_unity_map(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, *, pages: int, flags: MapFlags = READ_WRITE
    ) -> int:
        """Map pages to frames of the same numbers, for a device's firmware; return 0 or a negative errno.

        (Xen: amd/iommu_map.c, amd_iommu_reserve_domain_unity_map)

        Raises:
            ScenarioError: if the range is beyond the reach of the domain's tables, or the revision has no such call.
        """
        check_types(cpu, domain)
        check_range(domain, dfn, 0)
        check_range(domain, Dfn(dfn + pages - 1), 0)
        wanted: Wanted = {offset(dfn, i): (Mfn(dfn + i), flags) for i in range(pages)}
        record = self.open_wanted(cpu, "reserve_unity_map", domain, wanted)
        function = self.revision.function("amd_iommu_reserve_domain_unity_map")
        return await self.close(record, function, cpu, domain, dfn, pages, flags)

    async def fill(
        self, cpu: Cpu, call: str, domain: Domain, wanted: Wanted, function: Callable[..., Awaitable[Any]]
    ) -> None:
        """Make a call that returns nothing, and judge it when it has returned.

        Raises:
            ScenarioError: if the domain is not the hardware domain.
        """
        check_types(cpu, domain)
        if not domain.is_hardware_domain:
            raise ScenarioError(f"domain {domain.number} is not the hardware domain: only domain 0 is filled at boot")
        async with BootCode(cpu, call):
            record = self.open_wanted(cpu, call, domain, wanted)
            record.has_result = False
            await self.close(record, without_result(function), cpu, domain)

    def open_wanted(self, cpu: Cpu, call: str, domain: Domain, wanted: Wanted) -> CallRecord:
        """Begin the record of a call for pages that need not follow one another."""
        first, last = (min(wanted), max(wanted)) if wanted else (Dfn(0), Dfn(-1))
        record = self.open(cpu, call, domain, first, last - first + 1)
        record.wanted.update(wanted)
        return record


def without_result(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[int]]:
    """Return a function that returns 0 where another one returns nothing."""

    async def call(cpu: Cpu, domain: Domain) -> int:
        await function(cpu, domain)
        return 0

    return call
