"""How long a replaced entry stays in reach, per revision."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from emu.analysis.cycles import CYCLES, Clock, read_cycles
from emu.analysis.windows import Statistics, Window, statistics
from emu.cpus import Cpu
from emu.engine import Agent
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.running.run import Run
from emu.scenarios.library import find
from emu.units import Dfn


def longest(revision: str, order: int) -> int:
    """Return the longest window of a replacing map of an order, in steps."""
    bound = find("replace_while_device_reads").bind({"revision": revision, "order": str(order), "dma": "1"})
    machine = bound.build()
    direct.run(machine.execution(RoundRobinStrategy()))
    found = statistics(machine).windows
    assert sorted(window.dfn for window in found) == list(range(0x1000, 0x1000 + (1 << order)))
    return max(window.steps for window in found)


def test_before_the_patch_the_window_is_that_of_one_page_whatever_the_order() -> None:
    assert longest("implicit", 6) == longest("implicit", 2)


@pytest.mark.parametrize("revision", ["v1", "merged"])
def test_since_the_patch_the_window_is_the_whole_loop(revision: str) -> None:
    one_page = longest(revision, 0)
    steps_per_page = (longest(revision, 3) - longest(revision, 2)) / 4
    assert longest(revision, 9) == longest(revision, 2) + (512 - 4) * steps_per_page
    assert longest(revision, 9) > 100 * one_page


def test_an_entry_that_was_not_present_opens_no_window() -> None:
    machine = find("map_fails_halfway").bind({"order": "0", "failing_page": "0"}).build()
    direct.run(machine.execution(RoundRobinStrategy()))
    assert statistics(machine).windows == []


def test_a_store_that_leaves_an_entry_as_it_is_opens_no_window() -> None:
    (window,) = summary("replace_while_device_reads", iommu="amd", order="0", dma="1").windows
    assert window.dfn == 0x1000
    assert not window.still_open


def summary(name: str, cycles: dict[str, int] | None = None, **parameters: str) -> Statistics:
    machine = find(name).bind(parameters).build()
    direct.run(machine.execution(RoundRobinStrategy()))
    return statistics(machine, CYCLES if cycles is None else cycles)


def test_a_window_is_open_at_each_unit_until_that_unit_has_invalidated() -> None:
    first, second = summary("timeout_on_one_unit", hook_faults="0").windows
    assert (first.iommu, second.iommu) == ("vtd0", "vtd1")
    assert first.opened == second.opened < first.closed < second.closed
    assert not first.still_open
    assert not second.still_open


def test_a_whole_invalidation_takes_as_many_cycles_as_were_measured() -> None:
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0",))

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await machine.hypervisor.flush(cpu, domain, Dfn(0), pages=1)

    direct.run(machine.execution(RoundRobinStrategy()))
    ended = Clock.of(machine.trace, CYCLES).ended
    first, done = (
        next(event.step for event in machine.trace.events() if event.name == name)
        for name in ("queue.write", "flush.done")
    )
    assert ended[done] - ended[first] + CYCLES["queue.write"] == 2127


def moved_device(*, late: bool) -> list[Window]:
    """Return the windows of a domain whose page is unmapped while it has a device, or afterwards."""
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, Dfn(0), machine.allocate())

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        if late:
            await machine.assignment.detach(cpu, domain, machine.devices["00:1f.0"])
        await machine.hypervisor.unmap(cpu, domain, Dfn(0))

    direct.run(machine.execution(RoundRobinStrategy()))
    return statistics(machine).windows


def test_a_window_opens_only_where_a_unit_may_still_walk_the_tables() -> None:
    assert len(moved_device(late=False)) == 1
    assert moved_device(late=True) == []


def test_a_window_has_cycles_though_the_cpu_that_closes_it_never_waited_for_the_cpu_that_opened_it() -> None:
    machine = Machine(Description(revision="merged"))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, Dfn(0), machine.allocate())
    done = machine.signal("done")

    @machine.cpu(0)
    async def busy(cpu: Cpu) -> None:
        for _ in range(100):
            await cpu.read(iommu_dont_flush_iotlb)
        async with cpu.hypercall("remove"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.unmap(cpu, domain, Dfn(0))
            await done.wait()

    @machine.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await machine.hypervisor.flush(cpu, domain, Dfn(0), pages=1)
        await done.send()

    class First(RoundRobinStrategy):
        def pick(self, enabled: Sequence[Agent]) -> Agent:
            return next((agent for agent in enabled if agent.name == "cpu0"), enabled[-1])

    direct.run(machine.execution(First()))
    (window,) = statistics(machine).windows
    assert not window.still_open
    parts = ("invalidate.begin", "iotlb.invalidate", "invalidate.complete")
    assert window.cycles == sum(CYCLES[part] for part in parts)


def test_a_window_that_nothing_closes_lasts_to_the_end() -> None:
    (window,) = summary("unmap_claims_nothing_was_there").windows
    assert window.still_open
    assert (window.deferred, window.uses) == (False, 0)


def test_a_flush_that_begins_before_walkers_see_the_store_closes_no_window() -> None:
    machine = find("unmap_twice_before_flush").bind({"coherent": "false"}).build()
    direct.run(machine.execution(RoundRobinStrategy()))
    (window,) = statistics(machine).windows
    visible = next(event.step for event in machine.trace.events() if event.name == "line.write_back")
    closing = next(one for one in machine.trace.events() if one.step == window.closed)
    assert closing.fields["began"] > visible > window.opened


def test_a_change_whose_flush_is_put_off_is_marked() -> None:
    assert [one.deferred for one in summary("flush_after_continuation").windows] == [True, True]
    assert [one.deferred for one in summary("map_dma_unmap_dma").windows] == [False]


def test_a_table_that_is_taken_out_has_a_window_too() -> None:
    assert [one.table_level for one in summary("table_freed_before_flush").windows] == [1, 2]


def test_accesses_through_the_old_entry_are_counted_while_its_window_is_open() -> None:
    run = Run(find("remap_before_flush").bind({"dma": "8"}), "random", 0, 1000)
    run.on("direct")
    assert run.reported is not None
    found = statistics(run.reported.machine)
    unmapped = next(one for one in found.windows if one.uses)
    reads = [event for event in run.reported.machine.trace.events() if event.name == "dma.read"]
    within = [event for event in reads if unmapped.opened < event.step <= unmapped.closed]
    assert unmapped.uses == sum(event.fields["mfn"] == 0x180002 for event in within) > 0


def test_a_domain_wide_flush_drops_entries_that_were_still_valid() -> None:
    def over_flushed(revision: str) -> int:
        machine = Machine(Description(revision=revision))
        domain = machine.domain(1, devices=("00:1f.0",))
        machine.premap(domain, Dfn(0), machine.allocate(page_order=3), page_order=3, cached=True)

        @machine.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await machine.hypervisor.unmap(cpu, domain, Dfn(0), page_order=1)

        direct.run(machine.execution(RoundRobinStrategy()))
        return statistics(machine).over_flushed

    assert (over_flushed("implicit"), over_flushed("v1")) == (0, 6)


def test_the_time_for_which_a_mapping_lock_is_held_does_not_depend_on_the_cpus_that_wait() -> None:
    found = summary("map_dma_unmap_dma")
    assert found.lock_held > 0
    assert found.lock_cycles > found.lock_held


def test_cycles_count_what_an_agent_does_and_what_it_waits_for() -> None:
    free = dict.fromkeys(CYCLES, 0)
    (window,) = summary("map_dma_unmap_dma", {**free, "queue.post": 100, "invalidate.complete": 7}).windows
    assert window.cycles == 100 + 7
    (window,) = summary("map_dma_unmap_dma", free).windows
    assert (window.cycles, window.steps > 0) == (0, True)


def test_an_agent_that_is_not_chosen_spends_no_cycles() -> None:
    def first_window(seed: int) -> Window:
        machine = Machine(Description())
        machine.scope(1, "01:00.0")
        for number, bdf in ((1, "00:1f.0"), (2, "01:00.0")):
            domain = machine.domain(number, devices=(bdf,))
            machine.premap(domain, Dfn(0), machine.allocate())

            async def unmapper(cpu: Cpu, domain: Domain) -> None:
                await machine.hypervisor.unmap(cpu, domain, Dfn(0))

            machine.cpu(number).runs(unmapper, domain)
        direct.run(machine.execution(RandomStrategy.seeded(seed)))
        return next(one for one in statistics(machine).windows if one.domain == 1)

    found = [first_window(seed) for seed in range(20)]
    assert len({one.cycles for one in found}) == 1
    assert len({one.steps for one in found}) > 5


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[]", "holds no cycles"),
        (b'{"queue.post": -1}', "holds no cycles"),
        (b'{"queue.post": true}', "holds no cycles"),
        (b'{"queue.past": 1}', "names 'queue.past', which has no cycles"),
        (b"{", "cannot be read"),
        (b" " * (1 << 17), "is larger than 64 KiB"),
    ],
)
def test_a_file_that_is_no_table_of_cycles_is_refused_in_a_sentence(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "cycles.json"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=complaint):
        read_cycles(str(path))


def test_a_table_of_cycles_replaces_the_events_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "cycles.json"
    path.write_text('{"queue.post": 1, "other": 2}')
    assert read_cycles(str(path)) == {**CYCLES, "queue.post": 1, "other": 2}
