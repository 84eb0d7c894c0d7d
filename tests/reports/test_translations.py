"""What is shown of page tables and IOTLBs between two steps."""

from contextlib import closing

import pytest

from emu.errors import ScenarioError
from emu.machine.machine import Machine
from emu.reports.translations import domain_of, iotlb_lines, table_lines, unit_of
from emu.running.replay import Replay
from emu.running.run import Run
from emu.running.save import schedule_of_run
from emu.running.stepping import Stepping
from emu.scenarios.library import find
from emu.units import Dfn


def machine_at(event: str, **parameters: str) -> tuple[Machine, int]:
    """Return the machine of a replay right after the first event of a name, and the step of that."""
    bound = find("remap_before_flush").bind(parameters)
    run = Run(bound, "random", 23, 1)
    run.on("direct")
    schedule = schedule_of_run(run, "remap_before_flush")
    assert schedule is not None
    replay = Replay.with_code(schedule, "remap_before_flush", bound)
    with closing(Stepping(replay, replay.run("direct"))) as stepping:
        step = next(one.step for one in stepping.whole_trace.events() if one.name == event)
        stepping.go_to(step)
        return stepping.machine, step


def tables(machine: Machine, dfn: int) -> list[str]:
    return list(table_lines(machine, machine.domains[1], Dfn(dfn)))


@pytest.mark.parametrize("vendor", ["vtd", "amd"])
def test_a_replaced_leaf_is_shown_with_what_the_unit_may_still_use(vendor: str) -> None:
    machine, step = machine_at("pte.clear", iommu=vendor, dma="8")
    *_, leaf, now, old = tables(machine, 0x1000)
    assert leaf.startswith("level 1, word ")
    assert leaf.endswith(": 0x0, not present")
    assert now == f"{vendor}0 may use no translation"
    assert old.startswith(f"{vendor}0 may use mfn 0x180002 to read and write; its entry of level 1 was replaced at ")
    assert old.endswith(f" {step}")


def test_a_store_that_walkers_do_not_see_yet_is_told() -> None:
    machine, _ = machine_at("pte.clear", coherent="false")
    leaf = next(line for line in tables(machine, 0x1000) if line.startswith("  walkers may still read "))
    assert leaf.endswith(" to read and write")


@pytest.mark.parametrize("vendor", ["vtd", "amd"])
def test_a_cached_translation_is_shown_with_the_step_that_replaced_its_entry(vendor: str) -> None:
    machine, step = machine_at("pte.clear", iommu=vendor, dma="8")
    count, entry = iotlb_lines(machine, machine.unit)
    assert count == f"{vendor}0 caches 1 translation"
    assert entry.startswith("dfn 0x1000, ")
    assert entry.endswith(f"tag 1: mfn 0x180002 to read and write; replaced at step {step}")


def test_a_cached_table_entry_is_shown() -> None:
    machine, _ = machine_at("walk_cache.fill", walk_caches="true", dma="8")
    assert any(
        "of level 1" in line and line.startswith("dfn 0x1000 of order 9, ")
        for line in iotlb_lines(machine, machine.unit)
    )


def test_what_there_is_not_is_refused() -> None:
    machine, _ = machine_at("pte.clear")
    with pytest.raises(ScenarioError, match="there is no domain 7: name one of 1"):
        domain_of(machine, 7)
    with pytest.raises(ScenarioError, match=r"no unit is named 'vtd1' \(did you mean 'vtd0'\?\): name one of vtd0"):
        unit_of(machine, "vtd1")
    with pytest.raises(ScenarioError, match="levels of tables reach up to dfn"):
        tables(machine, 1 << 60)
