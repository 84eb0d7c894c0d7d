"""What the flushes of a call cost: one CPU makes the call on a machine that only counts.

Nothing is judged, neither histories nor events are kept, and a store is visible at once: so a call for 2^18 pages takes
minutes and not days. A device then uses a page of the domain that the call has not touched, and whose translation it
had cached: whether it has to walk again says whether the flush was too wide.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Annotated

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.boot import Boot
from emu.hypervisor.domain import Domain, IommuUse
from emu.hypervisor.ops import ENOMEM, READ_WRITE, MapFlags
from emu.hypervisor.physmap import Form, Physmap
from emu.iommus.counters import Counters
from emu.iommus.settings import Bounds
from emu.machine.machine import UNITS_MAX, Machine
from emu.platforms import PLATFORMS
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import scenario
from emu.units import Dfn, Mfn, offset, page_count

ORDER_MAX = 18
"""The order of a page of 1 GiB."""

FIRST = Dfn(0)
"""The first page of each call: a multiple of every order."""

MOVED_TO = Dfn(1 << ORDER_MAX)
BYSTANDER = Dfn(3 << ORDER_MAX)
"""The page that no call touches."""

NEW = Mfn(8 << ORDER_MAX)
"""The first frame that a map enters, at 8 GiB: a multiple of every order."""

DEVICE = "00:1f.0"
CACHED_ORDER_MAX = 10
"""Up to this order the device has cached the pages of the call."""


class Call(Enum):
    """A call for 2^order pages."""

    MAP = "map"  # none of them is mapped
    REPLACE = "replace"  # all are mapped, to other frames
    UNMAP = "unmap"  # all are mapped
    UNMAP_AGAIN = "unmap-again"  # none of them is mapped any more
    MAP_FAILS = "map-fails"  # the last of them cannot be mapped
    MOVE = "move"  # xenmem_add_to_physmap moves them to pages that are not mapped
    BOOT = "boot"  # iommu_hwdom_init maps them for the hardware domain


X86_CALLS = (Call.MOVE, Call.BOOT)
"""Calls of callers that do not call the wrappers on Arm."""


@attrs.frozen
class Cost:
    """What a call cost.

    Attributes:
        counters: of all units.
    """

    call: Call
    order: int
    revision: str
    counters: Counters


Body = Callable[[Cpu], Awaitable[object]]


@scenario(expect=CLEAN, sequential=True, only=dict.fromkeys(PLATFORMS, "each has calls that can be counted"))
def cost(
    m: Machine,
    *,
    call: Call = Call.REPLACE,
    order: Annotated[int, Bounds(0, ORDER_MAX)] = 9,
    units: Annotated[int, Bounds(1, UNITS_MAX)] = 1,
    use: IommuUse = IommuUse.SEPARATE,
) -> None:
    """One CPU makes a call for 2^order pages; then a device uses another page of the domain, which it had cached.

    Up to order 10 the device has used the pages of the call, too.

    units: how many there are; the domain's device stands behind the first, and only that one is used by the domain.
    use: how the IOMMU is used for the domain; where its devices are not translated, it has none.
    """
    m.scope(units - 1)
    is_translated = use in {IommuUse.SEPARATE, IommuUse.SHARED}
    domain = m.domain(0, devices=(DEVICE,) if is_translated else (), use=use)
    m.premap(domain, BYSTANDER, m.allocate(domain=domain), cached=True)
    body, done = body_of(m, domain, call, order), m.signal("the call is made")

    @m.cpu(0)
    async def caller(cpu: Cpu) -> None:
        await body(cpu)
        await done.send()

    if not is_translated:
        return

    @m.device(DEVICE)
    async def bystander(device: Device) -> None:
        await done.wait()
        await device.read(BYSTANDER)


def body_of(m: Machine, domain: Domain, call: Call, order: int) -> Body:
    """Map what the call needs, and return what the CPU does."""
    if domain.cpu_tlb is not None:
        return body_on_p2m(m, domain, call, order)
    if call in {Call.REPLACE, Call.UNMAP, Call.MOVE}:
        old = m.allocate(page_order=order, domain=domain)
        m.premap(domain, FIRST, old, page_order=order, cached=order <= CACHED_ORDER_MAX)
    if call in {Call.UNMAP, Call.UNMAP_AGAIN}:
        return lambda cpu: m.hypervisor.unmap(cpu, domain, FIRST, page_order=order)
    if call is Call.MOVE:
        moves = [(offset(FIRST, i), offset(MOVED_TO, i)) for i in range(page_count(order))]
        return lambda cpu: Physmap(m.hypervisor, m.pages, Form.XSA_80, slots=len(moves)).move_pages(cpu, domain, moves)
    if call is Call.BOOT:
        domain.boot = Boot(pages=page_count(order))
        return lambda cpu: m.hypervisor.hwdom_init(cpu, domain)
    new: Mfn = m.allocate(page_order=order, domain=domain, at=NEW)
    if call is Call.MAP_FAILS:
        m.fail_hook("map_page", offset(FIRST, page_count(order) - 1), ENOMEM)
    return lambda cpu: m.hypervisor.map(cpu, domain, FIRST, new, page_order=order)


def revisions_on(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Return the revisions of emu's that a machine with these parameters can run.

    Raises:
        ScenarioError: for an unknown vendor.
    """
    return cost.platform_of(parameters).revisions


def body_on_p2m(m: Machine, domain: Domain, call: Call, order: int) -> Body:
    """Map what the call needs in a p2m, where each page has the frame of its own number; return what the CPU does.

    A page is replaced by itself, with more permissions.

    Raises:
        ScenarioError: if no wrapper is called so on Arm.
    """
    if call in X86_CALLS:
        raise ScenarioError(f"on {m.description.platform.name} no wrapper is called to {call.value}: name another call")
    first, frames = Dfn(NEW), m.allocate(page_order=order, domain=domain, at=NEW)
    if call in {Call.REPLACE, Call.UNMAP}:
        flags, is_cached = READ_WRITE if call is Call.UNMAP else MapFlags.READABLE, order <= CACHED_ORDER_MAX
        m.premap(domain, first, frames, page_order=order, flags=flags, cached=is_cached)
    if call in {Call.UNMAP, Call.UNMAP_AGAIN}:
        return lambda cpu: m.hypervisor.unmap(cpu, domain, first, page_order=order)
    if call is Call.MAP_FAILS:
        m.fail_hook("map_page", offset(first, page_count(order) - 1), ENOMEM)
    return lambda cpu: m.hypervisor.map(cpu, domain, first, frames, page_order=order)


def calls_on(parameters: Mapping[str, str]) -> tuple[Call, ...]:
    """Return the calls that can be counted on a machine with these parameters.

    Raises:
        ScenarioError: for an unknown vendor.
    """
    return tuple(call for call in Call if not (cost.platform_of(parameters).apart and call in X86_CALLS))


def count(call: Call, order: int, revision: str, parameters: Mapping[str, str]) -> Cost:
    """Return what a call costs.

    Args:
        parameters: of the machine, as a user writes them.

    Raises:
        ScenarioError: for an unknown parameter, or a value that its parameter does not take; or if the call does not
            return.
    """
    texts = {"steps": "100000000", **parameters, "call": call.value, "order": str(order), "revision": revision}
    bound = cost.bind(texts)
    machine = bound.machine(is_counting=True)
    cost.build(machine, **bound.own_values())
    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    if execution.deadlock is not None or machine.broken:
        what = "ends in a deadlock" if execution.deadlock else f"does not hold {machine.broken[0].claim!r}"
        raise ScenarioError(
            f"{revision}'s {call.value} {what}, so its flushes cannot be counted: run a scenario with it"
        )
    return Cost(call, order, revision, machine.counters)
