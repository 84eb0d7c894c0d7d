"""An exploration of an SMMU's programs misses nothing: compared with every class of interleavings."""

from typing import Any

import pytest

from emu.platforms import SMMU
from emu.scenarios.library import find
from emu.scenarios.scenario import BoundScenario
from tests.cells import CELLS, LITMUS
from tests.smmu_programs import SMMU_PROGRAMS
from tests.test_soundness import (
    ON_SMMU,
    compare,
    compare_with_every_class,
    explored,
    seeded,
    swap_independent_steps,
)

ON_EACH = [(*what.partition(" ")[::2], revision) for what, revision in CELLS if what.split()[0] in ON_SMMU]
"""Scenario, parameters and revision: the cells of the scenarios that an SMMU can run, which are for it alone."""

SLOW = "flush_between=true"
"""Cells with this parameter have thousands of classes."""

OF_MODERATE_SIZE = [
    (name, cell)
    for name, cell, revision in ON_EACH
    if revision == "merged" and name != LITMUS and SLOW not in cell.split()
]


def texts(pairs: str) -> dict[str, str]:
    """Return parameters as a user writes them, by name."""
    return dict(pair.split("=") for pair in pairs.split())


def marks(name: str, cell: str, revision: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a cell: merged is tried every time; litmus tests have tens of thousands of classes."""
    if name == LITMUS or revision != "merged":
        return [pytest.mark.long]
    return [pytest.mark.ci_long] if SLOW in cell.split() else []


@pytest.mark.parametrize(("name", "cell", "revision"), [pytest.param(*one, marks=marks(*one)) for one in ON_EACH])
def test_every_class_of_interleavings_of_a_cell_is_explored_once_and_has_one_verdict(
    name: str, cell: str, revision: str
) -> None:
    compare_with_every_class(name, {**SMMU.small, **find(name).small, **texts(cell), "revision": revision})


@pytest.mark.long
@pytest.mark.parametrize("setting", ["synchronous=false", "synchronous=false drain=false coherent=false"])
@pytest.mark.parametrize(("name", "cell"), OF_MODERATE_SIZE)
def test_so_it_is_with_an_engine_of_its_own(name: str, cell: str, setting: str) -> None:
    compare_with_every_class(
        name, {**SMMU.small, **find(name).small, **texts(cell), **texts(setting), "revision": "merged"}
    )


# Small programs

SMALLEST = {"ipa_bits": "32", "superpage_bits": "1", "synchronous": "true", "walk_at_once": "true"}
"""Superpages have two and four pages, so that a table has few entries."""

SETTINGS = (
    "",
    "coherent=false",
    "drain=false",
    "walk_caches=true",
    "break_for_units=true",
    "walk_at_once=false",
    "synchronous=false",
)

LARGE = (
    "access_beside_a_page_that_xen_tracks",
    "access_beside_a_removal_and_an_add",
    "flushes_of_two_domains_beside_an_access",
)
"""Programs that have thousands of classes: only with `-m long`."""

TOO_LARGE = (
    "flushes_of_two_domains_beside_an_access",
    "reassignment_that_gives_up_beside_a_flush_of_another_domain",
    "removal_that_gives_up_beside_a_flush_of_another_domain",
)
"""Those that have tens of thousands of classes where the unit is an agent: random schedules are tried instead."""


OFTEN = ("coherent=false", "synchronous=false")
"""Settings that are tried in each run, beside the smallest machine; the others with `-m long`."""


def marks_of_program(name: str, setting: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a program with a setting."""
    if name in LARGE or (setting and setting not in OFTEN):
        return [pytest.mark.long]
    return [pytest.mark.ci_long] if setting else []


def programs() -> list[Any]:
    """Return each program with each setting; those that are slow are marked."""
    return [
        pytest.param(name, setting, marks=marks_of_program(name, setting))
        for setting in SETTINGS
        for name in SMMU_PROGRAMS
        if setting != "synchronous=false" or name not in TOO_LARGE
    ]


def bound_to(name: str, setting: str) -> BoundScenario:
    """Return a small program with settings."""
    return SMMU_PROGRAMS[name].bind({**SMALLEST, "revision": "merged", **texts(setting)})


@pytest.mark.parametrize(("name", "setting"), programs())
def test_so_it_is_with_small_programs(name: str, setting: str) -> None:
    compare(bound_to(name, setting))


@pytest.mark.ci_long
@pytest.mark.parametrize("name", TOO_LARGE)
def test_random_schedules_of_the_largest_show_nothing_that_an_exploration_misses(name: str) -> None:
    bound = bound_to(name, "synchronous=false")
    assert seeded(bound, 1_000) <= set(explored(bound, sections=False).causes)


@pytest.mark.parametrize("setting", ["coherent=false wait_faults=1 walk_caches=true", "synchronous=false drain=false"])
@pytest.mark.parametrize("name", SMMU_PROGRAMS)
def test_the_order_of_independent_steps_changes_nothing_that_anyone_is_told_or_finds(name: str, setting: str) -> None:
    swap_independent_steps(bound_to(name, setting), seeds=30, times=4)


@pytest.mark.parametrize(
    ("name", "setting", "kinds"),
    [
        ("access_beside_a_removal_and_an_add", "", set()),
        ("access_beside_a_removal_and_an_add", "drain=false", {"late-access"}),
        ("access_beside_a_removal_that_nobody_flushes", "", {"stale"}),
        ("access_beside_the_detach_of_the_last_device", "", set()),
        ("access_beside_the_detach_of_one_of_two_devices", "", {"stale"}),
        ("access_beside_a_split", "", set()),
        ("access_beside_a_split", "break_for_units=true", {"no-break"}),
    ],
)
def test_what_the_programs_show(name: str, setting: str, kinds: set[str]) -> None:
    bound = bound_to(name, setting)
    assert {cause.kind.value for cause in explored(bound, sections=True).causes} == kinds
