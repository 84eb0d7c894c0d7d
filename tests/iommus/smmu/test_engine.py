"""The TLB's engine: what completes before a synchronisation, what may overtake it, what it drains, how it tells."""

from collections.abc import Callable, Iterator, Sequence

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Agent, Choose, Event, Exploration, Strategy, Wait
from emu.engine.execution import Execution
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.iommus.smmu.formats import S2CR_BYPASS, S2CR_FAULT
from emu.iommus.smmu.queue import ALL, SYNC, Accept, CompleteSync
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.units import Dfn, frame_address
from tests.events import steps
from tests.smmu import ask, enter, poll, registers_of, settle, smmu_machine, store, stream_of, vmid
from tests.turns import Order, held_back

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
UNIT = "smmu0"
TOLD = 7


def machine_with(settings: SmmuSettings | None = None) -> Machine:
    """Return a machine with two pages that its device has cached."""
    machine = smmu_machine(settings or SmmuSettings(ipa_bits=32))
    machine.premap(machine.domain(1, devices=(NIC,)), G, machine.allocate(page_order=1), page_order=1, cached=True)
    return machine


@attrs.define
class InTurn:
    """Let CPUs go on as far as they can, and then the unit.

    Attributes:
        last: leave synchronisations as long as can be.
    """

    last: bool = False

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return next((agent for agent in enabled if "cpu" in agent.labels), enabled[0])

    def choose(self, choice: Choose) -> int:
        return choice.count - 1 if self.last else 0


def asked_for(machine: Machine, strategy: Strategy, *asked: int) -> list[Event]:
    """Have a CPU ask and then poll; return the events."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await ask(machine, *asked)
        await poll(machine)
        cpu.note("told")

    execution = machine.execution(strategy)
    direct.run(execution)
    assert machine.conclude(execution) == []
    return list(machine.trace.events())


def said(events: Sequence[Event], *names: str) -> list[tuple[str, object]]:
    """Return what happened, and to which number."""
    return [(event.name, event.fields.get("slot")) for event in events if event.name in names]


DONE = ("invalidate.begin", "invalidate.complete", "queue.complete", "told")


# What comes before a synchronisation, and what may overtake it


@pytest.mark.parametrize("last", [False, True])
def test_a_synchronisation_completes_after_every_invalidation_before_it_and_only_then_a_cpu_is_told(last: bool) -> None:
    events = asked_for(machine_with(), InTurn(last), 1, ALL, SYNC)
    assert said(events, *DONE) == [
        *[(name, 0) for name in DONE[:2]],
        *[(name, 1) for name in DONE[:2]],
        ("queue.complete", 2),
        ("told", None),
    ]


@pytest.mark.parametrize("last", [False, True])
def test_synchronisations_complete_in_their_order(last: bool) -> None:
    events = asked_for(machine_with(), InTurn(last), SYNC, SYNC, SYNC)
    assert said(events, "queue.complete", "told") == [
        *[("queue.complete", number) for number in range(3)],
        ("told", None),
    ]


@pytest.mark.parametrize(
    ("last", "order"),
    [
        (False, [("queue.complete", 0), ("invalidate.begin", 1), ("queue.complete", 2)]),
        (True, [("invalidate.begin", 1), ("queue.complete", 0), ("queue.complete", 2)]),
    ],
)
def test_a_later_invalidation_may_begin_before_a_synchronisation_has_completed(
    last: bool, order: list[tuple[str, int]]
) -> None:
    events = asked_for(machine_with(), InTurn(last), SYNC, 1, SYNC)
    assert said(events, "queue.complete", "invalidate.begin") == order


def explored(program: Callable[[], Machine]) -> Iterator[list[Event]]:
    """Yield the events of every execution."""
    machines: list[Machine] = []

    def build(strategy: Strategy) -> Execution:
        machines[:] = [program()]
        return machines[0].execution(strategy)

    exploration = Exploration(build, Optimal)
    for execution in exploration.each():
        direct.run(execution)
        assert machines[0].conclude(execution) == []
        yield list(machines[0].trace.events())
    assert exploration.is_exhausted


def test_both_orders_of_a_synchronisation_and_a_later_invalidation_are_explored() -> None:
    def program() -> Machine:
        machine = machine_with()

        @machine.cpu(0)
        async def submitter(cpu: Cpu) -> None:
            await ask(machine, SYNC, 1, SYNC)
            await poll(machine)

        return machine

    seen = {tuple(said(events, "queue.complete", "invalidate.begin")) for events in explored(program)}
    begun, first, last = ("invalidate.begin", 1), ("queue.complete", 0), ("queue.complete", 2)
    assert seen == {(begun, first, last), (first, begun, last)}


# What a CPU that polls reads


def two_flushers() -> Machine:
    """Return a machine on which two CPUs flush, each until it is told."""
    machine = machine_with()

    async def flush(cpu: Cpu) -> None:
        await settle(machine, 1)
        cpu.note("told")

    for number in (0, 1):
        machine.cpu(number).runs(flush)
    return machine


def test_the_synchronisation_of_a_second_cpu_prolongs_the_poll_of_the_first_one() -> None:
    machine = two_flushers()
    turns: list[tuple[str, type | None]] = [
        ("cpu0", Wait),
        (UNIT, CompleteSync),
        ("cpu1", Wait),
        (UNIT, Accept),  # the first synchronisation completes
        ("cpu0", None),
        (UNIT, CompleteSync),
        ("cpu0", None),
    ]
    execution = machine.execution(Order(turns))
    direct.run(execution)
    assert machine.conclude(execution) == []
    events = [one for one in machine.trace.events() if one.name in {"queue.active", "queue.complete", "told"}]
    assert [(one.agent.name, one.fields.get("active")) for one in events if one.agent.name != "cpu1"] == [
        ("cpu0", 1),
        (UNIT, 1),
        ("cpu0", 1),
        (UNIT, 0),
        ("cpu0", 0),
        ("cpu0", None),
    ]


def test_a_poll_reads_active_until_all_that_were_asked_for_have_completed_and_is_never_shortened() -> None:
    prolonged = False
    for events in explored(two_flushers):
        active = own = 0
        asked: dict[str, int] = {}
        posts: dict[str, int] = {}
        done: set[int] = set()
        for event in events:
            name, slot, cpu = event.name, event.fields.get("slot", 0), event.agent.name
            if name == "queue.post":  # each CPU asks for an invalidation first, and then for a synchronisation
                posts[cpu] = posts.get(cpu, 0) + 1
                if posts[cpu] == 2:
                    active, asked[cpu] = active + 1, slot
            elif name == "queue.complete":
                active -= 1
                done.add(slot)
            elif name == "queue.active":
                assert event.fields["active"] == active
                own = asked[cpu]
                prolonged |= own in done and active > 0
            elif name == "told":
                assert asked[cpu] in done
                assert not active or asked[cpu] < max(asked.values())
    assert prolonged


# What a synchronisation drains


def uses(machine: Machine, bdf: str, dfn: Dfn, *, is_write: bool = False) -> None:
    """Have a device make one access to a page."""

    @machine.device(bdf)
    async def user(device: Device) -> None:
        await (device.write(dfn, TOLD) if is_write else device.read(dfn))


def is_drained(machine: Machine, *asked: int) -> bool:
    """Whether a translated access that is held back has been made when a CPU learns of a synchronisation."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await settle(machine, *asked)
        cpu.note("told")

    assert held_back(machine, Commit) == []
    (told,) = steps(machine.trace.events(), "told")
    (made,) = steps(machine.trace.events(), "dma.read", "dma.write")
    return made < told


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("asked", [1, ALL])
def test_a_synchronisation_has_drained_what_an_invalidation_before_it_dropped_the_translation_of_if_units_drain(
    asked: int, is_write: bool, drain: bool
) -> None:
    machine = machine_with(SmmuSettings(ipa_bits=32, drain=drain))
    uses(machine, NIC, G, is_write=is_write)
    assert is_drained(machine, asked) is drain


@pytest.mark.parametrize("asked", [(2,), ()])
def test_a_synchronisation_does_not_drain_other_accesses(asked: tuple[int, ...]) -> None:
    machine = machine_with()
    uses(machine, NIC, G)
    assert not is_drained(machine, *asked)


def test_an_access_of_another_device_of_the_domain_is_drained_and_one_of_another_domain_is_not() -> None:
    def of_two(devices: tuple[str, ...]) -> Machine:
        machine = smmu_machine()
        machine.premap(machine.domain(1, devices=devices), G, machine.allocate(), cached=True)
        if DISK not in devices:
            machine.premap(machine.domain(2, devices=(DISK,)), G, machine.allocate(), cached=True)
        uses(machine, DISK, G)
        return machine

    assert is_drained(of_two((NIC, DISK)), 1)
    assert not is_drained(of_two((NIC,)), 1)


@pytest.mark.parametrize(("asked", "drains"), [(1, False), (ALL, True)])
def test_an_access_that_passes_through_is_drained_by_an_invalidation_of_everything_alone(
    asked: int, drains: bool
) -> None:
    machine = machine_with()
    enter(machine, registers_of(machine).s2cr(stream_of(machine, NIC)), S2CR_BYPASS)
    uses(machine, NIC, Dfn(frame_address(machine.allocate()) >> 12))
    assert is_drained(machine, asked) is drains


def test_what_was_to_be_drained_before_an_earlier_synchronisation_is_drained_before_a_later_one() -> None:
    machine = machine_with()
    uses(machine, NIC, G)
    assert is_drained(machine, 1, SYNC, 2)


def test_an_access_of_a_stream_that_was_made_to_fault_is_drained_by_an_invalidation_of_its_old_vmid() -> None:
    machine = machine_with()
    register = registers_of(machine).s2cr(stream_of(machine, NIC))
    uses(machine, NIC, G)

    @machine.cpu(0)
    async def detacher(cpu: Cpu) -> None:
        await store(machine, register, S2CR_FAULT)
        await settle(machine, vmid(machine, 1))
        cpu.note("told")

    assert held_back(machine, Commit) == []
    (made,), (told,) = (steps(machine.trace.events(), name) for name in ("dma.read", "told"))
    assert made < told


def unmapped(m: Machine) -> None:
    """A CPU unmaps a page and flushes, and a device writes to it."""
    m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(1, devices=(NIC,))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)
    uses(m, NIC, G, is_write=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame) == OK


@pytest.mark.parametrize("drain", [True, False])
def test_a_write_in_flight_lands_after_the_unmap_has_returned_only_if_units_do_not_drain(drain: bool) -> None:
    machine = smmu_machine(SmmuSettings(ipa_bits=32, drain=drain))
    unmapped(machine)
    assert [one.kind for one in held_back(machine, Commit)] == [FindingKind.LATE] * (not drain)
    (made,), (removed,) = steps(machine.trace.events(), "dma.write"), steps(machine.trace.events(), "call.return")
    assert (made > removed) is not drain
