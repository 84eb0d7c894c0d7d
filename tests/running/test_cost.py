"""What the flushes of a call cost: the table of the seed patch, cell by cell."""

from collections.abc import Mapping

import pytest

from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.errors import ScenarioError
from emu.platforms import PLATFORMS
from emu.running.cost import Call, count
from emu.scenarios.library import bundled_names, find

ORDERS = (0, 1, 2, 9, 10)
X86_CALLS = (Call.MOVE, Call.BOOT)


def block(order: int) -> str:
    """Return the AMD-Vi flush of an aligned range: of a page, else of 2 MiB or of 1 GiB."""
    return "pages order 0" if order == 0 else "pages order 9" if order <= 9 else "pages order 18"


def whole(order: int) -> str:
    """Return the VT-d flush of a range: of a page, else of the domain."""
    return "iotlb order 0" if order == 0 else "iotlb domain"


def flushed(call: Call, order: int, revision: str, **parameters: str) -> Mapping[str, int]:
    """Return the flushes of a call, by kind and range."""
    commands = count(call, order, revision, parameters).counters.commands
    return {kind: number for kind, number in commands.items() if kind != "wait"}


def times(number: int, kind: str) -> dict[str, int]:
    return {kind: number} if number else {}


def of_vtd(call: Call, order: int, revision: str, *, caching_mode: bool) -> dict[str, int]:
    """Return the flushes on one VT-d unit: before the patch one a page, in the patch one a call."""
    pages, is_before = 1 << order, revision == "implicit"
    once, each = {whole(order): 1}, {"iotlb order 0": pages}
    match call:
        case Call.BOOT:
            return (each if caching_mode else {}) if is_before else {"iotlb domain": 1}
        case Call.MAP:  # non-present entries are not cached; yet a range is flushed whole, whatever its type
            unflushed = not caching_mode and (is_before or order == 0)
            return {} if unflushed else each if is_before else once
        case Call.REPLACE | Call.UNMAP:
            return each if is_before else once
        case Call.UNMAP_AGAIN:
            return once if revision == "v1" else {}
        case Call.MAP_FAILS:  # at the last page: the pages before it are rolled back
            rolled_back = (pages - 1) * (2 if caching_mode else 1)
            by_revision = {
                "implicit": times(rolled_back, "iotlb order 0"),
                "v1": times(1 if order == 0 else 2, "iotlb domain"),
                "merged": times(order and 1, "iotlb domain"),
            }
            return by_revision[revision]
        case Call.MOVE:  # a range for the old places, one for the new; the unmaps of v1 ignore the flag
            moved = {"iotlb order 0": 2} if order == 0 else {"iotlb domain": 2}
            return {**moved, "iotlb order 0": moved.get("iotlb order 0", 0) + pages} if revision == "v1" else moved


def of_amd(call: Call, order: int, revision: str) -> dict[str, int]:
    """Return the flushes on one AMD-Vi unit: no entry that was not present needs one."""
    pages, is_before = 1 << order, revision == "implicit"
    once, each = {block(order): 1}, {"pages order 0": pages}
    match call:
        case Call.MAP:
            return {}
        case Call.REPLACE | Call.UNMAP:
            return each if is_before else once
        case Call.UNMAP_AGAIN:
            return {"implicit": each, "v1": once, "merged": {}}[revision]
        case Call.MAP_FAILS:
            rolled_back = times(pages - 1, "pages order 0")
            return {"implicit": rolled_back, "v1": {"pages domain": 1}, "merged": once if order else {}}[revision]
        case Call.BOOT:
            return {} if is_before else {"pages domain": 1}
        case Call.MOVE:  # neither implicit nor v1 reads the flag when it unmaps
            moved = {block(order): 2}
            of_pages = {} if revision == "merged" else {"pages order 0": pages + moved.get("pages order 0", 0)}
            return {**moved, **of_pages}


def of_smmu(call: Call, revision: str) -> dict[str, int]:
    """Return the flushes on one SMMU, each of the whole domain: the hooks ask for none, and v1 flushes all the same."""
    by_v1 = 2 if call is Call.MAP_FAILS else 1
    return times(by_v1 if revision == "v1" else 0, "vmid")


REVISIONS = pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
CALLS = pytest.mark.parametrize("call", Call, ids=lambda call: call.value)
EACH_ORDER = pytest.mark.parametrize("order", ORDERS)


@REVISIONS
@CALLS
@EACH_ORDER
@pytest.mark.parametrize("caching_mode", [False, True], ids=["", "caching"])
def test_vtd_flushes_as_often_as_the_patch_says(call: Call, order: int, revision: str, *, caching_mode: bool) -> None:
    found = flushed(call, order, revision, caching_mode=str(caching_mode))
    assert found == of_vtd(call, order, revision, caching_mode=caching_mode)


@REVISIONS
@CALLS
@EACH_ORDER
def test_amd_flushes_as_often_as_the_patch_says(call: Call, order: int, revision: str) -> None:
    assert flushed(call, order, revision, iommu="amd") == of_amd(call, order, revision)


@REVISIONS
@pytest.mark.parametrize(
    "call", [one for one in Call if one not in {Call.MOVE, Call.BOOT}], ids=lambda call: call.value
)
@EACH_ORDER
def test_on_arm_the_wrappers_of_the_patch_alone_flush(call: Call, order: int, revision: str) -> None:
    assert flushed(call, order, revision, iommu="smmu") == of_smmu(call, revision)


@pytest.mark.parametrize("call", X86_CALLS)
def test_calls_that_no_code_makes_on_arm_cannot_be_counted_there(call: Call) -> None:
    with pytest.raises(ScenarioError, match=f"on smmu no wrapper is called to {call.value}"):
        count(call, 0, "v1", {"iommu": "smmu"})


def test_a_replaced_2_mib_took_512_flushes_before_the_patch_and_takes_one_in_it() -> None:
    assert [count(Call.REPLACE, 9, one, {}).counters.flushes for one in ("implicit", "v1", "merged")] == [512, 1, 1]


@pytest.mark.parametrize(("vendor", "units"), [("vtd", 1), ("amd", 3), ("smmu", 1)])
def test_vtd_and_arm_flush_the_units_that_a_domain_uses_and_amd_flushes_all(vendor: str, units: int) -> None:
    assert count(Call.UNMAP, 0, "v1", {"iommu": vendor, "units": "3"}).counters.flushes == units


def test_a_flush_of_vtd_takes_two_descriptors_two_tail_writes_and_two_reads_of_tail_and_head() -> None:
    counters = count(Call.UNMAP, 0, "v1", {}).counters
    assert (counters.posted, counters.waits, counters.register_writes, counters.register_reads) == (2, 1, 2, 4)


def test_a_flush_of_amd_takes_two_commands_two_status_writes_and_no_read_of_the_tail() -> None:
    counters = count(Call.UNMAP, 0, "v1", {"iommu": "amd"}).counters
    assert (counters.posted, counters.waits, counters.register_writes, counters.register_reads) == (2, 1, 4, 3)


def test_a_flush_of_an_smmu_takes_two_register_writes_and_a_read_for_each_poll() -> None:
    counters = count(Call.UNMAP, 0, "v1", {"iommu": "smmu"}).counters
    assert (counters.posted, counters.waits, counters.register_writes, counters.register_reads) == (2, 1, 2, 2)


def test_a_flush_of_an_smmu_makes_the_device_walk_again_for_another_page_whatever_the_range_is() -> None:
    counters = count(Call.UNMAP, 0, "v1", {"iommu": "smmu"}).counters
    assert (counters.over_flushed, counters.walks_caused, counters.walks) == (1, 1, 1)


@pytest.mark.parametrize(("revision", "flushes"), [("implicit", 4), ("v1", 0), ("merged", 0)])
def test_a_unit_with_a_write_buffer_has_it_flushed_where_nothing_is_invalidated(revision: str, flushes: int) -> None:
    assert count(Call.MAP, 2, revision, {"write_buffer": "true"}).counters.buffer_flushes == flushes


@pytest.mark.parametrize(("revision", "walks"), [("implicit", 0), ("v1", 1)])
def test_a_flush_of_the_domain_makes_the_device_walk_again_for_another_page(revision: str, walks: int) -> None:
    counters = count(Call.REPLACE, 1, revision, {}).counters
    assert (counters.over_flushed, counters.walks_caused, counters.walks) == (walks, walks, walks)


@pytest.mark.parametrize("name", bundled_names())
def test_every_execution_is_counted_as_its_trace_tells(name: str) -> None:
    for platform in find(name).platforms(PLATFORMS):
        machine = find(name).bind({"iommu": platform.name}).build()
        execution = machine.execution(RandomStrategy.seeded(3))
        direct.run(execution)
        events = list(machine.trace.events())
        counters = machine.counters
        assert counters.posted == sum(event.name == "queue.post" for event in events)
        drops = [event.fields for event in events if event.name == "iotlb.invalidate"]
        assert counters.dropped == sum(keys["removed"] for keys in drops)
        assert counters.over_flushed == sum(keys["over_flushed"] for keys in drops)
        assert counters.walks == sum(event.name == "iotlb.miss" for event in events)
        assert counters.walks_caused <= min(counters.walks, counters.over_flushed)
