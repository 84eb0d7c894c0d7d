"""How often each call flushes an SMMU: with and without iommu_dont_flush_iotlb, before and after B30 was repaired."""

from collections.abc import Mapping
from enum import Enum

import pytest

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, READ_WRITE, MapFlags, iommu_dont_flush_iotlb
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn, offset, page_count
from tests.hypervisor.smmu.p2m import REVISIONS, p2m_machine, run

G = Dfn(0x10)


class Call(Enum):
    """A call of a wrapper for the hardware domain."""

    MAP = "map"
    PROTECT = "protect"  # a map of what is mapped, with fewer permissions
    UNMAP = "unmap"
    UNMAP_ABSENT = "unmap-absent"
    MAP_FAILS = "map-fails"  # at its last page


def flushes(call: Call, order: int, revision: str, *fixes: Fix, flagged: bool) -> int:
    """Return how many flushes a call makes for 2^order pages."""
    machine, domain = p2m_machine(*fixes, revision=revision, number=0)
    frames = machine.allocate(page_order=order, domain=domain, at=Mfn(G))
    machine.premap(domain, offset(G, 2), machine.allocate(domain=domain))
    if call in {Call.PROTECT, Call.UNMAP}:
        machine.premap(domain, G, frames, page_order=order, cached=True)
    if call is Call.MAP_FAILS:
        machine.fail_hook("map_page", offset(G, page_count(order) - 1), ENOMEM)

    async def body(m: Machine, cpu: Cpu) -> None:
        await cpu.write(iommu_dont_flush_iotlb, flagged)
        await make(call, m, cpu, domain, order)
        await cpu.write(iommu_dont_flush_iotlb, False)

    run(machine, body)
    return machine.counters.flushes


async def make(call: Call, m: Machine, cpu: Cpu, domain: Domain, order: int) -> None:
    """Make a call."""
    if call in {Call.UNMAP, Call.UNMAP_ABSENT}:
        await m.hypervisor.unmap(cpu, domain, G, page_order=order)
    else:
        flags = MapFlags.READABLE if call is Call.PROTECT else READ_WRITE
        await m.hypervisor.map(cpu, domain, G, Mfn(G), page_order=order, flags=flags)


BY_V1: Mapping[tuple[Call, bool], int] = {
    (Call.MAP, False): 1,
    (Call.PROTECT, False): 1,
    (Call.UNMAP, False): 1,
    (Call.UNMAP_ABSENT, False): 1,
    (Call.MAP_FAILS, False): 2,
    (Call.MAP, True): 0,
    (Call.PROTECT, True): 0,
    (Call.UNMAP, True): 1,
    (Call.UNMAP_ABSENT, True): 1,
    (Call.MAP_FAILS, True): 1,
}
"""The flushes of the seed patch's wrappers, by call and by whether the flag is set."""

CALLS = pytest.mark.parametrize("call", Call, ids=lambda call: call.value)
EACH = pytest.mark.parametrize("revision", REVISIONS)
ORDERS = pytest.mark.parametrize("order", [0, 1])
FLAG = pytest.mark.parametrize("flagged", [False, True], ids=["", "flagged"])


@EACH
@CALLS
@ORDERS
@FLAG
def test_only_the_wrappers_of_v1_flush_because_the_hooks_of_the_others_ask_for_none(
    revision: str, call: Call, order: int, *, flagged: bool
) -> None:
    expected = BY_V1[call, flagged] if revision == "v1" else 0
    assert flushes(call, order, revision, flagged=flagged) == expected


@EACH
@CALLS
@ORDERS
@FLAG
def test_once_repaired_the_p2m_flushes_for_each_entry_that_was_valid_or_becomes_so_besides(
    revision: str, call: Call, order: int, *, flagged: bool
) -> None:
    pages = page_count(order)
    entries = {Call.UNMAP_ABSENT: 0, Call.MAP_FAILS: 2 * (pages - 1)}.get(call, pages)
    by_wrapper = BY_V1[call, flagged] if revision == "v1" else 0
    assert flushes(call, order, revision, Fix.HAS_IOMMU, flagged=flagged) == entries + by_wrapper


@pytest.mark.parametrize(("revision", "explicit"), [("implicit", 1), ("v1", 1), ("merged", 1), ("flush_on_error", 1)])
@pytest.mark.parametrize("pages", [1, 16])
def test_an_explicit_flush_is_one_flush_whatever_its_range(revision: str, explicit: int, pages: int) -> None:
    machine, domain = p2m_machine(revision=revision, number=0)

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, G, pages=pages)
        await m.hypervisor.flush_all(cpu, domain)

    run(machine, body)
    assert machine.counters.flushes == explicit + 1


@EACH
@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_a_repaired_p2m_flushes_once_for_each_leaf(revision: str, order: int) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision)
    frames = machine.allocate(page_order=order, domain=domain)

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, frames, page_order=order)

    run(machine, body)
    assert machine.counters.flushes == (2 if order == 1 else 1)
