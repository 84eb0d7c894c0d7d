"""The hooks as the wrappers call them: the driver's hooks, with faults injected and failures recorded.

A revision calls them as if they were its driver's. So the checks learn of a failed hook even if the revision ignores
its result.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import attrs

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Fault, Faults
from emu.hypervisor.ops import ENOMEM, OK, DomainIsDyingError, FlushType, IommuOps, MapFlags
from emu.hypervisor.records import record_refusal, record_result
from emu.hypervisor.returned import change_of, result_of
from emu.units import Dfn, Mfn, page_count

HOOKS_THAT_CAN_FAIL = ("map_page", "unmap_page")


@attrs.frozen
class HookFault:
    """A hook that fails on one page, before it has touched anything."""

    hook: str
    dfn: Dfn
    result: int


@attrs.define(eq=False)
class Hooks:
    """A driver's hooks, with faults injected and results recorded.

    Attributes:
        faults: the faults that the strategy may inject.
        failing: the hooks that fail whatever the strategy chooses.
    """

    driver: IommuOps[Domain]
    faults: Faults = attrs.field(factory=Faults)
    failing: list[HookFault] = attrs.field(factory=list)

    async def injected(self, cpu: Cpu, hook: str, dfn: Dfn, pages: int) -> int:
        """Return the result that an injected fault gives for a number of pages; OK where there is none."""
        failing = (one for one in self.failing if one.hook == hook and dfn <= one.dfn < dfn + pages)
        result = next((one.result for one in failing), OK)
        if result == OK and await self.faults.strike(cpu, Fault.HOOK):
            result = ENOMEM
        if result != OK:
            cpu.note("fault.inject", hook=hook, dfn=dfn, result=result)
        return result

    async def map_page(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, page_order: int = 0
    ) -> tuple[int, FlushType]:
        """Make an entry."""
        pages, hook = page_count(page_order), self.driver.map_page
        result, flush_type = await self.injected(cpu, "map_page", dfn, pages), FlushType.NONE
        if result == OK:
            try:
                returned = await ordered(hook, page_order)(cpu, domain, dfn, mfn, flags)
                result, flush_type = change_of(returned, hook)
            except DomainIsDyingError:
                record_refusal(cpu, dfn, pages)
        return noted(cpu, "map_page", dfn, pages, result), flush_type

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int = 0) -> tuple[int, FlushType]:
        """Clear an entry."""
        pages, hook = page_count(page_order), self.driver.unmap_page
        result, flush_type = await self.injected(cpu, "unmap_page", dfn, pages), FlushType.NONE
        if result == OK:
            try:
                returned = await ordered(hook, page_order)(cpu, domain, dfn)
                result, flush_type = change_of(returned, hook)
            except DomainIsDyingError:
                record_refusal(cpu, dfn, pages)
        return noted(cpu, "unmap_page", dfn, pages, result), flush_type

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a range."""
        returned = await self.driver.iotlb_flush(cpu, domain, dfn, page_count, flush_type)
        return noted(cpu, "iotlb_flush", dfn, page_count, result_of(returned, self.driver.iotlb_flush))

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain."""
        returned = await self.driver.iotlb_flush_all(cpu, domain)
        return noted(cpu, "iotlb_flush_all", Dfn(0), 0, result_of(returned, self.driver.iotlb_flush_all))


def ordered(hook: Callable[..., Awaitable[object]], page_order: int) -> Callable[..., Awaitable[object]]:
    """Return a hook for 2^page_order pages; for one page it is called as Xen's hooks without superpages are."""
    return partial(hook, page_order=page_order) if page_order else hook


def noted(cpu: Cpu, hook: str, dfn: Dfn, page_count: int, result: int) -> int:
    """Record a result, and return it."""
    record_result(cpu, hook, dfn, page_count, result)
    return result
