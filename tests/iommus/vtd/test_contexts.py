"""The context cache: what an invalidation covers, what may still be used, and entries written in halves."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.iommus.vtd.contexts import (
    ContextCache,
    context_entry_address,
    covers,
    root_entry_address,
    sources_covered,
    wide_history,
)
from emu.iommus.vtd.formats import (
    ContextEntry,
    ContextInvalidation,
    Granularity,
    encode_context_entry,
    encode_root_entry,
)
from emu.memory import Memory
from emu.units import Maddr, parse_source_id

ROOT_TABLE, CONTEXT_TABLE = Maddr(0x1000), Maddr(0x2000)
DEVICE = parse_source_id("00:1f.0")
OLD, NEW = ContextEntry(7, Maddr(0xA000), 3), ContextEntry(8, Maddr(0xB000), 4)
GLOBAL = ContextInvalidation(Granularity.GLOBAL)


def domain(did: int) -> ContextInvalidation:
    return ContextInvalidation(Granularity.DOMAIN, did)


def device(did: int, bdf: str, function_mask: int = 0) -> ContextInvalidation:
    return ContextInvalidation(Granularity.NARROW, did, parse_source_id(bdf), function_mask)


@pytest.fixture
def contexts() -> ContextCache:
    contexts = ContextCache("vtd0", Memory(), ROOT_TABLE)
    contexts.memory.put(root_entry_address(ROOT_TABLE, DEVICE), encode_root_entry(CONTEXT_TABLE))
    write(contexts, OLD, 0)
    return contexts


def write(contexts: ContextCache, entry: ContextEntry | None, step: int) -> None:
    address = context_entry_address(CONTEXT_TABLE, DEVICE)
    value = 0 if entry is None else encode_context_entry(entry)
    contexts.memory.put(address, value & (1 << 64) - 1, step=step)
    contexts.memory.put(address + 8, value >> 64, step=step)


def legal(contexts: ContextCache, source_id: int) -> list[ContextEntry]:
    """Return the context entries that the unit may use for a device now, newest first."""
    return [entry for entry, _, dropped in contexts.lifetimes(source_id) if dropped == inf]


def test_entries_lie_16_bytes_apart_by_bus_and_by_device() -> None:
    source_id = parse_source_id("02:01.3")
    addresses = root_entry_address(ROOT_TABLE, source_id), context_entry_address(CONTEXT_TABLE, source_id)
    assert addresses == (0x1020, 0x20B0)


def test_a_global_invalidation_covers_every_device_and_domain() -> None:
    assert covers(GLOBAL, DEVICE, 7)


@pytest.mark.parametrize(("did", "covered"), [(7, True), (8, False)])
def test_a_domain_invalidation_covers_the_entries_of_its_domain(did: int, covered: bool) -> None:
    assert covers(domain(7), DEVICE, did) is covered


@pytest.mark.parametrize(("bdf", "covered"), [("00:1f.0", True), ("00:1f.1", False), ("01:1f.0", False)])
def test_a_device_invalidation_covers_its_device_alone(bdf: str, covered: bool) -> None:
    assert covers(device(7, "00:1f.0"), parse_source_id(bdf), 7) is covered


def test_a_device_invalidation_leaves_an_entry_of_another_domain() -> None:
    assert not covers(device(7, "00:1f.0"), DEVICE, 8)


@pytest.mark.parametrize(
    ("function_mask", "functions"), [(0, [1]), (1, [1, 5]), (2, [1, 3, 5, 7]), (3, [0, 1, 2, 3, 4, 5, 6, 7])]
)
def test_a_function_mask_ignores_function_bits_from_the_highest_down(function_mask: int, functions: list[int]) -> None:
    invalidation = device(7, "00:1f.1", function_mask)
    covered = [function for function in range(8) if covers(invalidation, DEVICE | function, 7)]
    assert covered == functions


@settings(deadline=None, derandomize=True)
@given(
    granularity=st.sampled_from(Granularity),
    named=st.integers(0, 0xFFFF),
    function_mask=st.integers(0, 3),
    difference=st.one_of(st.integers(0, 7), st.integers(0, 0xFFFF)),
)
def test_what_an_invalidation_covers_lies_in_the_range_that_it_declares(
    granularity: Granularity, named: int, function_mask: int, difference: int
) -> None:
    invalidation = ContextInvalidation(granularity, 7, named, function_mask)
    first, last = sources_covered(invalidation)
    source_id = named ^ difference
    assert not covers(invalidation, source_id, 7) or first <= source_id <= last


def test_an_invalidation_drops_what_it_covers_and_says_how_many(contexts: ContextCache) -> None:
    contexts.entries = {DEVICE: (OLD, ()), DEVICE + 1: (NEW, ()), DEVICE + 2: (OLD, ())}
    assert contexts.invalidate(domain(OLD.did), 1, 2) == 2
    assert contexts.entries == {DEVICE + 1: (NEW, ())}


def test_what_the_tables_hold_is_legal(contexts: ContextCache) -> None:
    assert legal(contexts, DEVICE) == [OLD]


def test_a_device_without_a_context_entry_has_nothing_legal(contexts: ContextCache) -> None:
    assert legal(contexts, DEVICE + 1) == []


def test_a_device_on_a_bus_without_a_context_table_has_nothing_legal(contexts: ContextCache) -> None:
    assert legal(contexts, parse_source_id("01:1f.0")) == []


def test_a_replaced_context_entry_stays_legal_behind_the_new_one(contexts: ContextCache) -> None:
    write(contexts, NEW, 1)
    assert legal(contexts, DEVICE) == [NEW, OLD]


@pytest.mark.parametrize("invalidation", [GLOBAL, domain(OLD.did), device(OLD.did, "00:1f.0")])
def test_an_invalidation_that_covers_the_old_entry_ends_it(
    contexts: ContextCache, invalidation: ContextInvalidation
) -> None:
    write(contexts, NEW, 1)
    contexts.invalidate(invalidation, 2, 3)
    assert legal(contexts, DEVICE) == [NEW]


@pytest.mark.parametrize("invalidation", [domain(NEW.did), device(NEW.did, "00:1f.0"), device(OLD.did, "00:1f.1")])
def test_an_invalidation_that_does_not_cover_the_old_entry_leaves_it(
    contexts: ContextCache, invalidation: ContextInvalidation
) -> None:
    write(contexts, NEW, 1)
    contexts.invalidate(invalidation, 2, 3)
    assert legal(contexts, DEVICE) == [NEW, OLD]


def test_an_invalidation_that_began_before_the_store_does_not_count(contexts: ContextCache) -> None:
    start = 1
    write(contexts, NEW, 2)
    contexts.invalidate(GLOBAL, start, start + 1)
    assert legal(contexts, DEVICE) == [NEW, OLD]


def test_a_removed_context_entry_stays_legal_until_an_invalidation(contexts: ContextCache) -> None:
    write(contexts, None, 1)
    assert legal(contexts, DEVICE) == [OLD]
    contexts.invalidate(GLOBAL, 2, 3)
    assert legal(contexts, DEVICE) == []


def test_halves_stored_in_one_step_make_one_value() -> None:
    memory = Memory()
    memory.put(0x5000, 0xA, step=3)
    memory.put(0x5008, 0xB, step=3)
    values = [(version.visible, version.value, until) for version, until in wide_history(memory, Maddr(0x5000))]
    assert values == [(3, 0xB << 64 | 0xA, inf), (0, 0, 3)]


def test_halves_stored_in_two_steps_show_a_torn_value_between() -> None:
    memory = Memory()
    memory.put(0x5008, 0xB, step=2)
    memory.put(0x5000, 0xA, step=5)
    values = [(version.visible, version.value, until) for version, until in wide_history(memory, Maddr(0x5000))]
    assert values == [(5, 0xB << 64 | 0xA, inf), (2, 0xB << 64, 5), (0, 0, 2)]


def test_an_entry_torn_between_its_halves_is_legal(contexts: ContextCache) -> None:
    address = context_entry_address(CONTEXT_TABLE, DEVICE)
    contexts.memory.put(address + 8, encode_context_entry(NEW) >> 64, step=1)
    contexts.memory.put(address, encode_context_entry(NEW) & (1 << 64) - 1, step=2)
    assert legal(contexts, DEVICE) == [NEW, ContextEntry(NEW.did, OLD.root, NEW.levels), OLD]
