"""Faults that the strategy injects: each a choice, each sort limited, and what comes of them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind, Stale
from emu.cpus import Cpu
from emu.engine import Agent, Choose, Event, Execution, Exploration, Strategy
from emu.engine.hosts import direct
from emu.engine.search import Search
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.faults import Fault
from emu.hypervisor.ops import EFAULT, ENOMEM, ETIMEDOUT, OK
from emu.hypervisor.vtd.queue import invalidate_sync
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.memory import Store
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import STALE
from emu.scenarios.library import find
from emu.scenarios.scenario import scenario
from emu.units import Dfn, Mfn, offset
from tests.vtd import driver_of

Execute = Callable[..., list[Finding]]
Body = Callable[[Machine, Cpu], Awaitable[int]]

G = Dfn(0x1000)
NIC = "00:1f.0"
NEW = Mfn(0x190000)
"""The first of frames that no machine here hands out."""
SYNCHRONOUS = VtdSettings(synchronous=True)
KEEPS_ERRORS = ["implicit", "merged"]


class Faulty(RoundRobinStrategy):
    """Have every fault happen that may."""

    def choose(self, choice: Choose) -> int:
        return choice.count - 1


class HoldBackUnit(Faulty):
    """Let CPUs go first, and the unit when none can; have every fault happen that may."""

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return next((agent for agent in enabled if "cpu" in agent.labels), enabled[0])


@attrs.define
class Scripted(RoundRobinStrategy):
    """Choose by a list; nothing happens when it is used up."""

    choices: list[int] = attrs.field(factory=list)

    def choose(self, choice: Choose) -> int:
        return self.choices.pop(0) if self.choices else 0


def machine_with(
    faults: Mapping[Fault, int], *, revision: str = "v1", vtd: VtdSettings = SYNCHRONOUS, number: int = 1
) -> Machine:
    machine = Machine(Description(revision, settings=attrs.evolve(vtd, levels=3), faults=faults, is_checking=True))
    machine.domain(number, devices=(NIC,))
    return machine


def run(machine: Machine, strategy: Strategy, *bodies: Body) -> tuple[list[int], list[Finding], list[Event]]:
    """Have each CPU do something; return what each got, the findings and the events."""
    results = [0] * len(bodies)

    async def does(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            results[cpu.number] = await bodies[cpu.number](machine, cpu)

    for number in range(len(bodies)):
        machine.cpu(number).runs(does)
    execution = machine.execution(strategy)
    direct.run(execution)
    return results, machine.conclude(execution), list(machine.trace.events())


def traces(
    faults: Mapping[Fault, int], body: Body, *, cpus: int = 1, revision: str = "v1", search: type[Search] = Optimal
) -> list[tuple[int, ...]]:
    """Return the results of every trace of one CPU or more that do the same."""
    outcomes: list[list[int]] = []

    def program(strategy: Strategy) -> Execution:
        machine = machine_with(faults, revision=revision)
        results = [0] * cpus
        outcomes.append(results)

        async def does(cpu: Cpu) -> None:
            results[cpu.number] = await body(machine, cpu)

        for number in range(cpus):
            machine.cpu(number).runs(does)
        return machine.execution(strategy)

    exploration = Exploration(program, search)
    for execution in exploration.each():
        direct.run(execution)
    assert exploration.executions == len(outcomes)
    return [tuple(results) for results in outcomes]


async def map_two(machine: Machine, cpu: Cpu) -> int:
    """Map two pages in a domain that has no tables yet."""
    (domain,) = machine.domains.values()
    return await machine.hypervisor.map(cpu, domain, G, NEW, page_order=1)


async def map_one(machine: Machine, cpu: Cpu) -> int:
    """Map one page in a domain that has no tables yet."""
    (domain,) = machine.domains.values()
    return await machine.hypervisor.map(cpu, domain, G, NEW)


async def flush(machine: Machine, cpu: Cpu) -> int:
    """Flush the domain."""
    (domain,) = machine.domains.values()
    return await machine.hypervisor.flush_all(cpu, domain)


async def wait_only(machine: Machine, cpu: Cpu) -> int:
    """Post a wait descriptor, and wait for it."""
    return await invalidate_sync(cpu, driver_of(machine), driver_of(machine).iommus[0])


async def strike_three_times(machine: Machine, cpu: Cpu) -> int:
    """Return how many of three hook faults happen."""
    return sum([await machine.faults.strike(cpu, Fault.HOOK) for _ in range(3)])


def choices(events: Sequence[Event]) -> list[str]:
    return [event.fields["about"] for event in events if event.name == "choice"]


def injected(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.name == "fault.inject"]


def leaves(machine: Machine, pages: int) -> list[bool]:
    """Return which pages are mapped now."""
    (tables,) = machine.unit.tables_ever(machine.devices[NIC].source_id)
    return [machine.unit.ledger.leaf_at(tables, offset(G, i), machine.trace.step) != 0 for i in range(pages)]


# Choices and limits


@pytest.mark.parametrize("body", [map_two, flush, wait_only])
def test_without_a_limit_nothing_is_chosen_and_nothing_fails(body: Body) -> None:
    results, findings, events = run(machine_with({}), Faulty(), body)
    assert (results, findings) == ([OK], [])
    assert choices(events) == []
    assert injected(events) == []


def test_a_sort_that_has_no_limit_is_not_chosen_beside_one_that_has() -> None:
    _, _, events = run(machine_with({Fault.WAIT: 1}), RoundRobinStrategy(), map_one)
    assert choices(events) == []
    _, _, events = run(machine_with({Fault.ALLOCATION: 1}), RoundRobinStrategy(), map_one)
    assert choices(events) == ["allocation fault"] * 2


def test_every_place_where_a_fault_may_happen_is_a_choice_of_two() -> None:
    everything = {Fault.ALLOCATION: 1, Fault.HOOK: 1, Fault.WAIT: 1}
    machine = machine_with(everything)

    async def body(m: Machine, cpu: Cpu) -> int:
        await map_two(m, cpu)
        return await flush(m, cpu)

    results, findings, events = run(machine, RoundRobinStrategy(), body)
    assert (results, findings) == ([OK], [])
    assert {event.fields["of"] for event in events if event.name == "choice"} == {2}
    assert Counter(choices(events)) == {"hook fault": 2, "allocation fault": 2, "wait fault": 2}
    assert injected(events) == []


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4])
def test_a_cpu_meets_no_more_faults_of_a_sort_than_its_limit(limit: int) -> None:
    results, _, events = run(machine_with({Fault.HOOK: limit}), Faulty(), strike_three_times)
    assert results == [min(limit, 3)]
    assert len(choices(events)) == min(limit, 3)


def test_each_cpu_has_a_limit_of_its_own() -> None:
    results, _, _ = run(machine_with({Fault.HOOK: 2}), Faulty(), strike_three_times, strike_three_times)
    assert results == [2, 2]


def test_each_sort_has_a_limit_of_its_own() -> None:
    machine = machine_with({Fault.HOOK: 1, Fault.WAIT: 1})

    async def body(m: Machine, cpu: Cpu) -> int:
        return sum(
            [await m.faults.strike(cpu, sort) for sort in (Fault.HOOK, Fault.WAIT, Fault.HOOK, Fault.ALLOCATION)]
        )

    assert run(machine, Faulty(), body)[0] == [2]


def test_a_fault_that_was_not_chosen_does_not_count() -> None:
    results, _, events = run(machine_with({Fault.HOOK: 1}), Scripted(choices=[0, 1, 1]), strike_three_times)
    assert results == [1]
    assert len(choices(events)) == 2


def test_a_scenario_allows_at_least_so_many_faults() -> None:
    machine = machine_with({Fault.HOOK: 2})
    machine.allow_faults(hooks=1, waits=3)
    assert machine.faults.limits == {Fault.HOOK: 2, Fault.WAIT: 3, Fault.ALLOCATION: 0}
    assert machine.description.faults == {Fault.HOOK: 2}


def test_a_scenario_may_allow_faults_on_one_cpu_only() -> None:
    machine = machine_with({Fault.HOOK: 1})
    machine.allow_faults(hooks=2, cpu=0)
    assert run(machine, Faulty(), strike_three_times)[0] == [2]
    other = machine_with({Fault.HOOK: 1})
    other.allow_faults(hooks=2, cpu=1)
    assert run(other, Faulty(), strike_three_times)[0] == [1]


def test_a_negative_number_of_faults_is_refused() -> None:
    with pytest.raises(ScenarioError, match="-1 wait faults: allow none, or a number of them"):
        machine_with({}).allow_faults(waits=-1, cpu=1)


@pytest.mark.parametrize(("name", "limit"), [("allocation_faults", 3), ("hook_faults", 4), ("wait_faults", 5)])
def test_every_scenario_has_a_parameter_for_each_limit(name: str, limit: int) -> None:
    machine = find("remap_before_flush").bind({name: str(limit)}).build()
    assert [count for count in machine.description.faults.values() if count] == [limit]
    assert machine.faults.limits == machine.description.faults


# Explorations take both ways


@pytest.mark.parametrize("search", [Optimal, DepthFirst])
@pytest.mark.parametrize(("limit", "count"), [(0, 1), (1, 4), (2, 7), (3, 8)])
def test_an_exploration_takes_every_choice_of_at_most_so_many_places_out_of_three(
    limit: int, count: int, search: type[Search]
) -> None:
    results = traces({Fault.HOOK: limit}, strike_three_times, search=search)
    assert len(results) == count
    assert max(results) == (min(limit, 3),)


def test_the_choices_of_two_cpus_multiply_and_their_orders_do_not() -> None:
    results = traces({Fault.HOOK: 1}, strike_three_times, cpus=2)
    assert len(results) == 4 * 4
    assert Counter(results) == {(0, 0): 1, (0, 1): 3, (1, 0): 3, (1, 1): 9}


def test_an_exploration_lets_a_wait_end_and_time_out() -> None:
    assert sorted(traces({Fault.WAIT: 1}, wait_only)) == [(ETIMEDOUT,), (OK,)]


def test_an_exploration_lets_the_allocation_of_either_table_fail() -> None:
    results = traces({Fault.ALLOCATION: 1}, map_one, revision="merged")
    assert sorted(results) == [(ENOMEM,), (ENOMEM,), (OK,)]


def test_an_exploration_lets_either_page_and_then_the_roll_back_fail() -> None:
    assert sorted(traces({Fault.HOOK: 1}, map_two, revision="merged")) == [(ENOMEM,), (ENOMEM,), (OK,)]
    assert sorted(traces({Fault.HOOK: 2}, map_two, revision="merged")) == [(ENOMEM,), (ENOMEM,), (ENOMEM,), (OK,)]


# Allocations


@pytest.mark.parametrize("revision", KEEPS_ERRORS)
def test_an_allocation_that_fails_is_enomem_through_the_map(revision: str) -> None:
    machine = machine_with({Fault.ALLOCATION: 1}, revision=revision)
    tables = len(machine.domains[1].tables)
    results, findings, events = run(machine, Faulty(), map_one)
    assert (results, findings) == ([ENOMEM], [])
    (fault,) = injected(events)
    assert (fault.fields["dfn"], fault.fields["result"]) == (G, ENOMEM)
    assert leaves(machine, 1) == [False]
    assert len(machine.domains[1].tables) == tables


def test_an_allocation_that_fails_enters_nothing_and_one_before_it_stays() -> None:
    machine = machine_with({Fault.ALLOCATION: 1}, revision="merged")
    _, _, events = run(machine, Scripted(choices=[0, 1]), map_one)
    assert [event.fields["table_level"] for event in events if event.name == "pte.write"] == [3, 3, 3]
    assert len(machine.domains[1].tables) == 2


def test_the_seed_patch_loses_the_error_of_an_allocation() -> None:
    results, (finding,), _ = run(machine_with({Fault.ALLOCATION: 1}), Faulty(), map_one)
    assert results == [OK]
    assert finding.kind is FindingKind.LOST_ERROR


@pytest.mark.parametrize(("number", "is_crashed"), [(0, False), (1, True)])
def test_an_allocation_that_fails_crashes_any_domain_but_the_hardware_domain(number: int, is_crashed: bool) -> None:
    machine = machine_with({Fault.ALLOCATION: 1}, revision="merged", number=number)
    run(machine, Faulty(), map_one)
    assert machine.domains[number].is_crashed is is_crashed


def test_a_map_may_be_repeated_when_there_is_memory_again() -> None:
    machine = machine_with({Fault.ALLOCATION: 1}, revision="merged", number=0)

    async def body(m: Machine, cpu: Cpu) -> int:
        assert await map_one(m, cpu) == ENOMEM
        return await map_one(m, cpu)

    results, findings, _ = run(machine, Faulty(), body)
    assert (results, findings) == ([OK], [])
    assert leaves(machine, 1) == [True]


# Hooks


@pytest.mark.parametrize("revision", KEEPS_ERRORS)
@pytest.mark.parametrize("call", ["map", "unmap"])
def test_a_hook_that_fails_has_touched_nothing(revision: str, call: str) -> None:
    machine = machine_with({Fault.HOOK: 1}, revision=revision)
    domain, frame = machine.domains[1], machine.allocate()
    if call == "unmap":
        machine.premap(domain, G, frame)

    async def body(m: Machine, cpu: Cpu) -> int:
        if call == "map":
            return await m.hypervisor.map(cpu, domain, G, frame)
        return await m.hypervisor.unmap(cpu, domain, G)

    results, findings, events = run(machine, Faulty(), body)
    assert (results, findings) == ([ENOMEM], [])
    (fault,) = injected(events)
    assert dict(fault.fields) == {"hook": f"{call}_page", "dfn": G, "result": ENOMEM}
    assert [event for event in events if event.name in {"pte.read", "pte.write", "pte.clear"}] == []
    assert leaves(machine, 1) == [call == "unmap"]


def test_a_hook_that_fails_for_certain_is_not_chosen_besides() -> None:
    machine = machine_with({Fault.HOOK: 5}, revision="merged")
    machine.fail_hook("map_page", G, EFAULT)
    results, _, events = run(machine, Faulty(), map_one)
    assert results == [EFAULT]
    assert choices(events) == []


@pytest.mark.parametrize("revision", KEEPS_ERRORS)
def test_a_hook_fault_in_the_roll_back_leaves_a_page(revision: str) -> None:
    machine = machine_with({Fault.HOOK: 2}, revision=revision)
    results, (finding,), events = run(machine, Scripted(choices=[0, 1, 1]), map_two)
    assert results == [ENOMEM]
    assert [event.fields["hook"] for event in injected(events)] == ["map_page", "unmap_page"]
    assert leaves(machine, 2) == [True, False]
    assert finding.kind is FindingKind.NOT_ROLLED_BACK


@pytest.mark.parametrize("revision", KEEPS_ERRORS)
def test_a_hook_fault_without_one_in_the_roll_back_leaves_none(revision: str) -> None:
    machine = machine_with({Fault.HOOK: 2}, revision=revision)
    results, findings, _ = run(machine, Scripted(choices=[0, 1, 0]), map_two)
    assert (results, findings) == ([ENOMEM], [])
    assert leaves(machine, 2) == [False, False]


# Waits


def test_a_cpu_that_gives_up_leaves_its_descriptors_to_the_unit_which_executes_them() -> None:
    machine = machine_with({Fault.WAIT: 1}, vtd=VtdSettings())
    machine.premap(machine.domains[1], G, machine.allocate(), cached=True)
    results, findings, events = run(machine, HoldBackUnit(), flush)
    assert (results, findings) == ([ETIMEDOUT], [])
    (gave_up,) = injected(events)
    assert dict(gave_up.fields) == {"iommu": "vtd0", "result": ETIMEDOUT}
    (completed,) = [event.step for event in events if event.name == "invalidate.complete"]
    (status,) = [event for event in events if event.name == "queue.status"]
    assert gave_up.step < completed < status.step
    assert machine.memory.peek(driver_of(machine).poll_slots) == 1
    assert len(machine.unit.iotlb) == 0
    assert [event for event in events if event.name == "flush.done"] == []


def test_a_unit_that_has_executed_the_wait_before_the_cpu_gives_up_does_not_save_it() -> None:
    results, _, events = run(machine_with({Fault.WAIT: 1}), Faulty(), wait_only)
    assert results == [ETIMEDOUT]
    (status,) = [event.step for event in events if event.name == "queue.status"]
    assert status < injected(events)[0].step


def test_a_cpu_that_has_given_up_once_waits_the_next_time() -> None:
    async def body(m: Machine, cpu: Cpu) -> int:
        assert await flush(m, cpu) == ETIMEDOUT
        return await flush(m, cpu)

    results, findings, events = run(machine_with({Fault.WAIT: 1}, vtd=VtdSettings()), Faulty(), body)
    assert results == [OK]
    assert findings == []
    assert len([event for event in events if event.name == "flush.done"]) == 1


@attrs.define
class UnitBeforeReset(Scripted):
    """Let the unit go on when none of the CPUs can, or one is about to reset its status for the second time."""

    resets: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        cpus = [agent for agent in enabled if "cpu" in agent.labels]
        is_reset = bool(cpus) and isinstance(cpus[0].pending, Store) and cpus[0].pending.bits == 32
        if not cpus or (is_reset and self.resets == 1 and len(cpus) < len(enabled)):
            return next(agent for agent in enabled if agent not in cpus)
        self.resets += is_reset
        return cpus[0]


def test_a_status_that_comes_before_the_next_wait_has_reset_the_word_does_not_end_it() -> None:
    async def body(m: Machine, cpu: Cpu) -> int:
        assert await wait_only(m, cpu) == ETIMEDOUT
        return await wait_only(m, cpu)

    machine = machine_with({Fault.WAIT: 1}, vtd=VtdSettings())
    results, findings, events = run(machine, UnitBeforeReset(choices=[1]), body)
    assert (results, findings) == ([OK], [])
    first, second = [event.step for event in events if event.name == "queue.status"]
    _, reset = [event.step for event in events if event.name == "memory.store"]
    (done,) = [event.step for event in events if event.name == "flush.done"]
    assert first < reset < second < done


@scenario(expect=STALE, sequential=True)
def unmap_after_timeout(m: Machine, *, other_cpu: bool = False) -> None:
    """A CPU flushes a page, and unmaps another one afterwards, or has another CPU do that."""
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate())
    flushed = m.signal("flushed")

    @m.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, offset(G, 1), pages=1)
        await flushed.send()
        if not other_cpu:
            await m.hypervisor.unmap(cpu, domain, G)

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        await flushed.wait()
        if other_cpu:
            await m.hypervisor.unmap(cpu, domain, G)


def explored(**parameters: str) -> ScenarioExploration:
    done = ScenarioExploration(unmap_after_timeout.bind({"levels": "3", **parameters}), __file__)
    done.on("direct")
    assert done.is_exhausted
    return done


def test_the_status_of_a_wait_that_timed_out_may_end_a_later_one_of_that_cpu_too_early() -> None:
    done = explored(wait_faults="1")
    (cause,) = done.causes.values()
    assert 0 < cause.executions < done.done
    assert isinstance(cause.finding, Stale)
    assert (cause.finding.kind, cause.finding.promise, cause.finding.dfn) == (FindingKind.STALE, "unmapped", G)
    assert cause.run is not None
    assert cause.run.reported is not None
    events = list(cause.run.reported.machine.trace.events())
    (fault,) = injected(events)
    (first, *_) = [event.step for event in events if event.name == "queue.status"]
    (ended,) = [event.step for event in events if event.name == "flush.done"]
    armed = [event.step for event in events if event.name == "memory.store"][1]
    completed = [event.step for event in events if event.name == "invalidate.complete"]
    assert fault.step < armed < first < ended
    assert len([step for step in completed if step < cause.finding.step]) == 1


def test_without_a_timeout_no_wait_ends_too_early() -> None:
    assert explored(wait_faults="0").causes == {}


def test_the_status_of_a_wait_that_timed_out_is_nothing_to_another_cpu() -> None:
    assert explored(wait_faults="1", other_cpu="true").causes == {}


def test_where_descriptors_are_executed_at_once_the_status_cannot_come_late() -> None:
    assert explored(wait_faults="1", synchronous="true").causes == {}
