"""The calls that fill a domain's tables, as the toolstack or Xen's boot code makes them, whatever the revision.

Those for the hardware domain return nothing: a failure is told by logging it. What they put off is due when they
return.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import BootCode, Cpu
from emu.engine import Access, Kind, Operation
from emu.errors import ScenarioError
from emu.hypervisor.calls import Calls, call_keys, check_range
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.page_list import INVALID_GFN, ListName, PageType, ReadGfn
from emu.hypervisor.records import CallRecord, open_call
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
        """Fill the hardware domain's tables: with its own pages, then by the hook (Xen: iommu.c, iommu_hwdom_init).

        Raises:
            ScenarioError: if the domain is not the hardware domain, or has a page at no address.
        """
        check_hardware(cpu, domain)

        def permitted(mfn: Mfn) -> MapFlags:
            """Return how a page is to be mapped.

            Raises:
                ScenarioError: if it is at no address.
            """
            if domain.page_list.gfns[mfn] == INVALID_GFN:
                raise ScenarioError(f"mfn {mfn:#x} of the hardware domain is at no address: enter it with one")
            return MapFlags.READABLE if domain.page_list.types[mfn].value is PageType.TABLE else READ_WRITE

        async with BootCode(cpu, "hwdom_init"):
            if domain.need_sync:
                record = await self.open_listed(cpu, "hwdom_init", domain, permitted)
            else:
                record = self.open_wanted(cpu, "hwdom_init", domain, {})
            await self.close_without_result(record, self.revision.function("iommu_hwdom_init"), cpu, domain)

    async def arch_hwdom_init(self, cpu: Cpu, domain: Domain) -> None:
        """Map what else the hardware domain may reach (Xen: x86/iommu.c, arch_iommu_hwdom_init).

        Raises:
            ScenarioError: if the domain is not the hardware domain.
        """
        check_hardware(cpu, domain)
        pages = (Dfn(page) for page in range(domain.boot.pages) if domain.boot.maps(Dfn(page)))
        wanted: Wanted = {} if domain.is_passthrough else {page: (Mfn(page), READ_WRITE) for page in pages}
        async with BootCode(cpu, "arch_hwdom_init"):
            record = self.open_wanted(cpu, "arch_hwdom_init", domain, wanted)
            await self.close_without_result(record, self.revision.function("arch_iommu_hwdom_init"), cpu, domain)

    async def populate(self, cpu: Cpu, domain: Domain) -> int:
        """Map a domain's pages, in one pass; return -ERESTART if more are left.

        (Xen: x86/iommu.c, arch_iommu_populate_page_table)

        The pass that returns 0 promises for all passes. Xen's callers hold pcidevs_lock, which is not modelled: let one
        CPU populate a domain.
        """
        check_types(cpu, domain)

        def permitted(mfn: Mfn) -> MapFlags:
            is_guests = domain.page_list.gfns[mfn] != INVALID_GFN
            is_writable = domain.is_hvm or domain.page_list.types[mfn].value is PageType.WRITABLE
            return READ_WRITE if is_guests and is_writable else MapFlags(0)

        before = self.interrupted.pop(domain.number, None)
        record = await self.open_listed(cpu, "populate", domain, permitted)
        if before is not None:
            record.go_on(before)
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

    async def close_without_result(
        self, record: CallRecord, function: Callable[..., Awaitable[Any]], cpu: Cpu, domain: Domain
    ) -> None:
        """Run a revision's function that returns nothing, and end the record of its call."""

        async def succeed(cpu: Cpu, domain: Domain) -> int:
            await function(cpu, domain)
            return 0

        record.has_result = False
        await self.close(record, succeed, cpu, domain)

    async def open_listed(
        self, cpu: Cpu, call: str, domain: Domain, permitted: Callable[[Mfn], MapFlags]
    ) -> CallRecord:
        """Begin the record of a call for the pages of a domain's list."""
        record = CallRecord(call, cpu, domain, Dfn(0), 0, outer=cpu.peek(open_call))
        await EnterListed(record, permitted)
        cpu.poke(open_call, record)
        return record

    def open_wanted(self, cpu: Cpu, call: str, domain: Domain, wanted: Wanted) -> CallRecord:
        """Begin the record of a call for pages that need not follow one another."""
        first, last = (min(wanted), max(wanted)) if wanted else (Dfn(0), Dfn(-1))
        record = self.open(cpu, call, domain, first, last - first + 1)
        record.wanted.update(wanted)
        return record


class EnterListed(Operation[None]):
    """Call a function that maps pages of a domain's list, as far as they are wanted when it is called.

    Args:
        permitted: returns the permissions with which a page is to be mapped; none if it is not to be mapped.
    """

    __slots__ = ("permitted", "record")

    event = "call.enter"

    def __init__(self, record: CallRecord, permitted: Callable[[Mfn], MapFlags]) -> None:
        self.record = record
        self.permitted = permitted

    def accesses(self) -> Iterable[Access]:
        pages = self.record.domain.page_list
        yield pages.access(Kind.READ)
        for mfn in pages.lists[ListName.PAGES]:
            yield from ReadGfn(pages, mfn).accesses()
            yield from pages.types[mfn].reading

    def perform(self, step: int) -> None:
        record, pages = self.record, self.record.domain.page_list
        for mfn in pages.lists[ListName.PAGES]:
            gfn, flags = pages.gfns[mfn], self.permitted(mfn)
            if flags:
                record.wanted[gfn] = (mfn, flags)
            record.types[gfn] = (pages.types[mfn], pages.types[mfn].value)
        if record.wanted:
            record.dfn = min(record.wanted)
            record.page_count = max(record.wanted) - record.dfn + 1

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, call_keys(self.record)


def check_hardware(cpu: Cpu, domain: Domain) -> None:
    """Refuse anything but the hardware domain.

    Raises:
        ScenarioError: naming the domain.
    """
    check_types(cpu, domain)
    if not domain.is_hardware_domain:
        raise ScenarioError(f"domain {domain.number} is not the hardware domain: only domain 0 is filled at boot")
