"""The hooks as the wrappers call them: the driver's hooks, with faults injected and failures recorded.

A revision calls them as if they were its driver's. So the checks learn of a failed hook even if the revision ignores
its result.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import attrs

from emu.cpus import Cpu
from emu.errors import ModelAssertionError, ScenarioError
from emu.hypervisor.boot_calls import BootCalls
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Fault, Faults
from emu.hypervisor.fixes import Fix
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
        missing: the flush hooks that the driver lacks: they are NULL.
        calls: the revision's calls, which the hook `hwdom_init` uses.
        fixes: the repairs that the driver has.
    """

    driver: IommuOps[Domain]
    faults: Faults = attrs.field(factory=Faults)
    failing: list[HookFault] = attrs.field(factory=list)
    missing: set[str] = attrs.field(factory=set)
    calls: BootCalls | None = attrs.field(default=None, repr=False)
    fixes: set[Fix] = attrs.field(factory=set)

    @property
    def has_iotlb_flush(self) -> bool:
        """Whether the driver has the hook `iotlb_flush`."""
        return "iotlb_flush" not in self.missing

    @property
    def has_iotlb_flush_all(self) -> bool:
        """Whether the driver has the hook `iotlb_flush_all`."""
        return "iotlb_flush_all" not in self.missing

    def refuse_missing(self, hook: str) -> None:
        """Refuse to call a hook that the driver lacks, as a hypervisor that calls NULL does.

        Raises:
            ModelAssertionError: naming the hook.
        """
        if hook in self.missing:
            raise ModelAssertionError(f"the hook {hook} is called, and the driver has none: it is NULL")

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
        record_exemption(cpu, domain, dfn, pages)
        if result == OK:
            try:
                returned = await ordered(hook, page_order)(cpu, domain, dfn, mfn, flags)
                result, flush_type = change_of(returned, hook)
            except DomainIsDyingError:
                refuse_unless_dying(domain)
                record_refusal(cpu, dfn, pages)
        return noted(cpu, "map_page", dfn, pages, result), flush_type

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int = 0) -> tuple[int, FlushType]:
        """Clear an entry."""
        pages, hook = page_count(page_order), self.driver.unmap_page
        result, flush_type = await self.injected(cpu, "unmap_page", dfn, pages), FlushType.NONE
        record_exemption(cpu, domain, dfn, pages)
        if result == OK:
            try:
                returned = await ordered(hook, page_order)(cpu, domain, dfn)
                result, flush_type = change_of(returned, hook)
            except DomainIsDyingError:
                refuse_unless_dying(domain)
                record_refusal(cpu, dfn, pages)
        return noted(cpu, "unmap_page", dfn, pages, result), flush_type

    async def hwdom_init(self, cpu: Cpu, domain: Domain) -> None:
        """Fill the hardware domain's tables.

        (Xen: vtd/iommu.c, intel_iommu_hwdom_init; amd/pci_amd_iommu.c, amd_iommu_hwdom_init)
        """
        if self.calls is not None:
            await self.calls.arch_hwdom_init(cpu, domain)

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a range."""
        self.refuse_missing("iotlb_flush")
        returned = await self.driver.iotlb_flush(cpu, domain, dfn, page_count, flush_type)
        return noted(cpu, "iotlb_flush", dfn, page_count, result_of(returned, self.driver.iotlb_flush))

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain."""
        self.refuse_missing("iotlb_flush_all")
        returned = await self.driver.iotlb_flush_all(cpu, domain)
        return noted(cpu, "iotlb_flush_all", Dfn(0), 0, result_of(returned, self.driver.iotlb_flush_all))


def ordered(hook: Callable[..., Awaitable[object]], page_order: int) -> Callable[..., Awaitable[object]]:
    """Return a hook for 2^page_order pages; for one page it is called as Xen's hooks without superpages are."""
    return partial(hook, page_order=page_order) if page_order else hook


def refuse_unless_dying(domain: Domain) -> None:
    """Refuse a hook that takes a domain for a dying one.

    Raises:
        ScenarioError: if the domain is not dying.
    """
    if not domain.is_dying.value:
        raise ScenarioError(
            f"a hook raised DomainIsDyingError, but domain {domain.number} is not dying: let it change it"
        )


def record_exemption(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> None:
    """Note that a hook owes nothing for pages of a domain of whose tables it may leave alone."""
    if domain.uses_hap_pt or domain.is_passthrough:
        record_refusal(cpu, dfn, page_count)


def noted(cpu: Cpu, hook: str, dfn: Dfn, page_count: int, result: int) -> int:
    """Record a result, and return it."""
    record_result(cpu, hook, dfn, page_count, result)
    return result
