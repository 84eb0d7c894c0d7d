"""Which flush a change of an entry requires: what each revision's own functions say of each change."""

import itertools
from importlib import import_module
from typing import Any

import pytest

from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.entries import enter_leaf
from emu.hypervisor.ops import EINVAL, INVALID_DFN, OK, READ_WRITE, FlushType, MapFlags
from emu.iommus.amd.formats import encode_leaf
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import PLATFORMS
from emu.units import Dfn, Mfn, frame_address
from tests.amd import amd_machine, driver_of
from tests.revisions import OF_THE_PATCH

G = Dfn(0x10)
FRAME = Mfn(0x1_0000_0001)
REVISIONS = pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])

CHANGES = {
    "nothing": (FRAME, READ_WRITE),
    "the low half of the frame": (Mfn(FRAME + 1), READ_WRITE),
    "the high half of the frame": (Mfn(FRAME + (1 << 20)), READ_WRITE),
    "read": (FRAME, MapFlags.WRITABLE),
    "write": (FRAME, MapFlags.READABLE),
}
"""Each field of a leaf, and what it is changed to, of a leaf of FRAME to read and write."""


def module(revision: str, file: str) -> Any:
    return import_module(f"emu.hypervisor.revisions.{revision}.{file}")


def returned(machine: Machine, body: Any) -> Any:
    """Return what a function returns that CPU 0 awaits."""
    found = []

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        found.append(await body(cpu))

    direct.run(machine.execution(RoundRobinStrategy()))
    return found[0]


def leaf_of(mfn: Mfn, flags: MapFlags) -> int:
    return encode_leaf(frame_address(mfn), read=MapFlags.READABLE in flags, write=MapFlags.WRITABLE in flags)


@REVISIONS
@pytest.mark.parametrize(("is_present", "changed"), list(itertools.product([False, True], CHANGES)))
def test_set_iommu_pde_present_says_which_flush_a_leaf_requires(
    revision: str, *, is_present: bool, changed: str
) -> None:
    machine = amd_machine(revision=revision)
    domain = machine.domain(1)
    (*_, read) = enter_leaf(machine.memory, domain, G, leaf_of(FRAME, READ_WRITE) if is_present else 0)
    store = module(revision, "amd").set_iommu_pde_present
    word = leaf_of(*CHANGES[changed])

    found = returned(machine, lambda cpu: store(cpu, driver_of(machine), domain, G, read.address, word))
    is_modified = is_present and changed != "nothing"
    otherwise = {"implicit": False, "v1": FlushType.NONE, "merged": FlushType.ADDED}[revision]
    assert found == (otherwise if not is_modified else revision == "implicit" or FlushType.MODIFIED)
    assert machine.memory.peek(read.address) == word


@pytest.mark.parametrize(("is_present", "said"), [(False, FlushType.NONE), (True, FlushType.MODIFIED)])
def test_clear_iommu_pte_present_of_merged_says_whether_the_leaf_was_present(
    *, is_present: bool, said: FlushType
) -> None:
    machine = amd_machine(revision="merged")
    domain = machine.domain(1)
    (*_, read) = enter_leaf(machine.memory, domain, G, leaf_of(FRAME, READ_WRITE) if is_present else 0)
    clear = module("merged", "amd").clear_iommu_pte_present
    assert returned(machine, lambda cpu: clear(cpu, driver_of(machine), domain, G, read.address)) == said
    assert machine.memory.peek(read.address) == 0


OLD = ("not present", "equal", "another frame")


@REVISIONS
@pytest.mark.parametrize(("old", "caching_mode"), list(itertools.product(OLD, [False, True])))
def test_vtd_flushes_by_the_type_and_the_caching_mode(revision: str, old: str, *, caching_mode: bool) -> None:
    machine = Machine(Description(revision, settings=VtdSettings(caching_mode=caching_mode)))
    domain = machine.domain(1, devices=("00:1f.0",))
    new = machine.allocate()
    if old != "not present":
        machine.premap(domain, G, new if old == "equal" else machine.allocate())

    async def both(cpu: Cpu) -> tuple[int, FlushType]:
        result: tuple[int, FlushType] = await machine.hooks.map_page(cpu, domain, G, new, READ_WRITE)
        return result

    said = {"not present": FlushType.ADDED, "equal": FlushType.NONE, "another frame": FlushType.MODIFIED}[old]
    assert returned(machine, both) == (OK, FlushType.NONE if revision == "implicit" else said)

    again = Machine(Description(revision, settings=VtdSettings(caching_mode=caching_mode)))
    domain = again.domain(1, devices=("00:1f.0",))
    new = again.allocate()
    if old != "not present":
        again.premap(domain, G, new if old == "equal" else again.allocate())
    assert returned(again, lambda cpu: again.hypervisor.map(cpu, domain, G, new)) == OK
    is_flushed = old == "another frame" or (old == "not present" and caching_mode)
    assert again.counters.flushes == is_flushed


COUNTS = {"none": (G, 0), "no page": (INVALID_DFN, 1), "beyond the last page": (Dfn(INVALID_DFN - 1), 4)}


@pytest.mark.parametrize("revision", ["implicit", "v1"])
@pytest.mark.parametrize("bad", COUNTS)
def test_the_flush_hook_of_amd_takes_a_bad_range_for_everything(revision: str, bad: str) -> None:
    machine = amd_machine(revision=revision)
    domain = machine.domain(1, devices=("00:1f.0",))
    flush = module(revision, "iommu").iommu_iotlb_flush
    dfn, count = COUNTS[bad]
    assert returned(machine, lambda cpu: flush(cpu, domain, dfn, count)) == OK
    assert machine.counters.commands["pages domain"] == 1


@pytest.mark.parametrize("vendor", OF_THE_PATCH)
@pytest.mark.parametrize(
    ("dfn", "count", "flush_type", "result"),
    [
        (G, 0, FlushType.MODIFIED, OK),
        (G, 1 << 32, FlushType.MODIFIED, OK),
        (G, 1, FlushType.NONE, OK),
        (INVALID_DFN, 1, FlushType.MODIFIED, EINVAL),
    ],
)
def test_the_flush_of_merged_filters_what_it_need_not_do(
    vendor: str, dfn: Dfn, count: int, flush_type: FlushType, result: int
) -> None:
    machine = Machine(Description("merged", PLATFORMS[vendor]))
    domain = machine.domain(1, devices=("00:1f.0",))
    flush = module("merged", "iommu").iommu_iotlb_flush
    assert returned(machine, lambda cpu: flush(cpu, domain, dfn, count, flush_type)) == result
    assert machine.counters.posted == 0


@pytest.mark.parametrize("revision", ["implicit", "v1"])
@pytest.mark.parametrize("count", [0, 1 << 32])
def test_without_a_filter_no_pages_are_all_pages_for_vtd(revision: str, count: int) -> None:
    machine = Machine(Description(revision))
    domain = machine.domain(1, devices=("00:1f.0",))
    flush = module(revision, "iommu").iommu_iotlb_flush
    assert returned(machine, lambda cpu: flush(cpu, domain, G, count)) == OK
    assert machine.counters.commands["iotlb domain"] == 1
