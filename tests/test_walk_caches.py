"""Where walks start at cached table entries, an exploration misses nothing, and no device uses what it must not."""

import pytest

from emu.platforms import AMD, SMMU, VTD
from emu.scenarios.library import find
from tests.cells import LITMUS
from tests.classes import Classes
from tests.programs import PROGRAMS
from tests.test_soundness import (
    ON_AMD,
    ON_SMMU,
    ON_VTD,
    SLOW_ON_AMD,
    bound_to,
    compare_with_every_class,
    explored,
    seeded,
    small_forms_of,
    swap_independent_steps,
)

WALK_CACHES = {"walk_caches": "true"}

DEVICES_WALK = (
    "access_while_reassigned",
    "device_returned_with_writes_queued",
    "map_dma_unmap_dma",
    "replace_while_device_reads",
    "write_in_flight",
    "write_permission_taken_away",
)
"""Scenarios whose devices walk."""

SHORT = DEVICES_WALK[2:]

SCENARIOS = [pytest.param(name, marks=[] if name in SHORT else [pytest.mark.long]) for name in ON_VTD]

REPLACED = (
    "accesses_beside_a_table_that_is_cut_off",
    "walks_of_a_device_and_of_what_it_has_posted",
    "access_by_tables_that_a_device_has_left",
)
"""Programs in which walks start at cached table entries that were replaced."""

FORMS = [
    pytest.param("synchronous=true walk_at_once=true", marks=pytest.mark.ci_long),
    pytest.param("synchronous=true", marks=pytest.mark.ci_long),
    pytest.param("walk_at_once=true", marks=pytest.mark.ci_long),
    pytest.param("", marks=pytest.mark.long),
    pytest.param("synchronous=true coherent=false", marks=pytest.mark.long),
    pytest.param("synchronous=true caching_mode=true", marks=pytest.mark.long),
    pytest.param("synchronous=true drain=false", marks=pytest.mark.long),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_class_of_a_small_scenario_is_explored_once_and_has_one_verdict(name: str) -> None:
    compare_with_every_class(name, {**VTD.small, **find(name).small, **WALK_CACHES, "revision": "merged"})


@pytest.mark.long
@pytest.mark.parametrize("name", small_forms_of(SLOW_ON_AMD, ON_AMD))
def test_so_it_is_on_amd(name: str) -> None:
    compare_with_every_class(
        name, {"iommu": "amd", **AMD.small, **find(name).small, **WALK_CACHES, "revision": "merged"}
    )


@pytest.mark.ci_long
@pytest.mark.parametrize("name", small_forms_of((LITMUS,), ON_SMMU))
def test_so_it_is_on_smmus(name: str) -> None:
    compare_with_every_class(
        name, {"iommu": "smmu", **SMMU.small, **find(name).small, **WALK_CACHES, "revision": "merged"}
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ON_VTD)
def test_so_it_is_on_machines_that_are_not_small(name: str) -> None:
    compare_with_every_class(name, {**find(name).small, **WALK_CACHES, "revision": "merged"})


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_show_what_they_show_without_and_more_only_if_a_device_walks(name: str) -> None:
    small = {**VTD.small, **find(name).small, "revision": "merged"}
    without, done = (explored(find(name).bind(values), sections=True) for values in (small, {**small, **WALK_CACHES}))
    assert set(done.causes) >= set(without.causes)
    assert done.done >= without.done
    assert name in DEVICES_WALK or (done.done, set(done.causes)) == (without.done, set(without.causes))


def compare_program(name: str, form: str) -> None:
    """Hold an exploration against every class; walks that start at cached entries make more of them."""
    bound = bound_to(name, f"{form} walk_caches=true", levels="3", revision="merged")
    classes = Classes.of(bound)
    done = explored(bound, sections=False)
    assert done.done == classes.traces
    assert set(done.causes) == set(explored(bound, sections=True).causes) == classes.signatures >= seeded(bound, 200)
    assert done.done > explored(bound_to(name, form, levels="3", revision="merged"), sections=False).done


def test_every_class_of_a_program_whose_walks_find_replaced_entries_is_explored_once() -> None:
    compare_program(REPLACED[0], "synchronous=true walk_at_once=true")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REPLACED)
def test_so_it_is_of_other_such_programs_and_of_other_units(name: str, form: str) -> None:
    compare_program(name, form)


@pytest.mark.parametrize("name", REPLACED)
def test_the_order_of_independent_steps_changes_nothing_that_anyone_is_told_or_finds(name: str) -> None:
    bound = bound_to(name, "levels=3 revision=merged synchronous=true walk_caches=true")
    swap_independent_steps(bound, seeds=60, times=5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_check_of_what_devices_use_is_silent(name: str) -> None:
    bound = bound_to(name, "levels=3 revision=merged synchronous=true walk_at_once=true walk_caches=true")
    assert not explored(bound, sections=True).has_emulator_bug
