"""Flushes of SMMUs: which VMID on which unit, under which lock, and what the poll for their completion sees."""

from collections.abc import Sequence

import attrs
import pytest

from emu.checks.findings import FindingKind, LostError
from emu.cpus import Cpu
from emu.engine import Agent, Event
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.ops import OK
from emu.hypervisor.smmu import arm_smmu_iotlb_flush_all
from emu.hypervisor.smmu.flush import vmid_of
from emu.iommus.smmu.queue import SYNC, CompleteSync
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.events import steps
from tests.hypervisor.smmu.p2m import DISK, FAR, Body, Faulty, driver_of, names, p2m_machine, run, unit_of

G = Dfn(0x10)


def asked(machine: Machine, number: int = 0) -> list[int]:
    """Return what a unit was asked for, in order."""
    return unit_of(machine, number).queue.asked


def two_units(*devices: str) -> Machine:
    """Return a machine with two units, on which domain 2 has some devices, and domain 1 a NIC behind the first."""
    machine, _ = p2m_machine()
    machine.scope(1, FAR)
    machine.domain(2, devices=devices)
    return machine


def flushes(number: int) -> Body:
    """Return what a CPU does that flushes a domain."""

    async def body(m: Machine, cpu: Cpu) -> None:
        await arm_smmu_iotlb_flush_all(cpu, driver_of(m), m.domains[number])

    return body


@pytest.mark.parametrize(("devices", "units"), [((DISK,), (0,)), ((FAR,), (1,)), ((DISK, FAR), (0, 1)), ((), ())])
def test_each_unit_that_the_domain_uses_is_asked_once_for_its_vmid_there_and_for_a_synchronisation(
    devices: Sequence[str], units: Sequence[int]
) -> None:
    machine = two_units(*devices)
    run(machine, flushes(2))
    vmids = {0: 2, 1: 1}  # domain 1 has the first bank of unit 0
    assert [asked(machine, number) for number in (0, 1)] == [
        [vmids[number], SYNC] if number in units else [] for number in (0, 1)
    ]


def test_two_devices_behind_one_unit_share_a_bank_and_a_flush() -> None:
    machine = two_units(DISK, "00:03.0")
    run(machine, flushes(2))
    assert asked(machine) == [2, SYNC]


def test_a_bank_has_the_vmid_of_the_next_number_for_0_stands_for_no_guest() -> None:
    assert [vmid_of(bank) for bank in (0, 15)] == [1, 16]


def test_one_unit_after_the_other_under_the_lock_of_the_domains_contexts() -> None:
    machine = two_units(DISK, FAR)
    events, _ = run(machine, flushes(2))
    (taken,), (released,) = (
        steps(events, f"lock.{verb}", lock="d2.xen_domain_lock") for verb in ("acquire", "release")
    )
    first, second = (steps(events, "queue.post", "queue.active", iommu=f"smmu{number}") for number in (0, 1))
    assert taken < first[0] < first[-1] < second[0] < second[-1] < released


def test_a_cpu_polls_until_no_synchronisation_is_active() -> None:
    machine, _ = p2m_machine()
    events, _ = run(machine, flushes(1))
    polled = [event.fields["active"] for event in events if event.name == "queue.active"]
    assert polled == [1, 0]
    (completed,) = steps(events, "queue.complete")
    assert completed < steps(events, "flush.done")[0] < steps(events, "queue.active")[-1]


def test_where_the_unit_executes_at_once_the_first_poll_sees_it() -> None:
    machine, _ = p2m_machine(settings=SmmuSettings(ipa_bits=32, superpage_bits=2, synchronous=True))
    events, _ = run(machine, flushes(1))
    assert [event.fields["active"] for event in events if event.name == "queue.active"] == [0]
    assert steps(events, "flush.done") == []


# Giving up


def given_up(machine: Machine, strategy: RoundRobinStrategy) -> list[Event]:
    """Flush domain 1 by a call, and give up waiting where that may happen; return the events."""
    machine.allow_faults(waits=1)

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.flush(cpu, m.domains[1], G, pages=1) == OK

    events, _ = run(machine, body, strategy=strategy)
    return events


def test_a_poll_that_gives_up_is_logged_and_its_caller_learns_nothing() -> None:
    machine, _ = p2m_machine()
    events = given_up(machine, Faulty())
    (injected,) = (event for event in events if event.name == "fault.inject")
    assert (injected.fields["iommu"], injected.fields["result"]) == ("smmu0", -110)
    assert [finding.kind for finding in machine.findings] == [FindingKind.LOST_ERROR]
    assert isinstance(machine.findings[0], LostError)


@attrs.define
class UnitLast(Faulty):
    """Has every fault happen that may, and lets the unit go on only when nobody else can."""

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return next((agent for agent in enabled if "iommu" not in agent.labels), enabled[0])


def test_the_unit_still_completes_what_was_given_up() -> None:
    machine, domain = p2m_machine()
    machine.premap(domain, G, machine.allocate(domain=domain), cached=True)
    events = given_up(machine, UnitLast())
    assert steps(events, "fault.inject")[0] < steps(events, "lock.release", lock="d1.xen_domain_lock")[0]
    assert (
        steps(events, "call.return")[0] < steps(events, "invalidate.complete")[0] < steps(events, "queue.complete")[0]
    )
    assert len(unit_of(machine).iotlb) == 0
    assert unit_of(machine).queue.active == 0


# Two CPUs


@attrs.define
class SecondAsksFirst(RoundRobinStrategy):
    """Lets the unit complete a synchronisation only after two were asked for."""

    machine: Machine = attrs.field(kw_only=True)

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        waits = asked(self.machine).count(SYNC) < 2
        held = [one for one in enabled if not (waits and isinstance(one.pending, CompleteSync))]
        return super().pick(held or enabled)


def test_the_synchronisation_of_another_cpu_prolongs_the_poll_and_never_shortens_it() -> None:
    machine = two_units(DISK)
    events, findings = run(machine, flushes(1), flushes(2), strategy=SecondAsksFirst(machine=machine))
    assert findings == []
    assert sorted(asked(machine)) == [SYNC, SYNC, 1, 2]
    completed = steps(events, "queue.complete")
    assert len(completed) == 2
    for cpu in ("cpu0", "cpu1"):
        polled = [
            event.fields["active"] for event in events if event.name == "queue.active" and event.agent.name == cpu
        ]
        assert polled[-1] == 0
        assert steps(events, "queue.active", agent=cpu)[-1] > completed[1]


def test_flushes_of_two_domains_are_not_excluded_from_one_another_by_a_lock() -> None:
    machine = two_units(DISK)
    events, _ = run(machine, flushes(1), flushes(2), strategy=SecondAsksFirst(machine=machine))
    both = names(events, "lock.acquire", "lock.release")
    assert both == ["lock.acquire"] * 2 + ["lock.release"] * 2


def test_two_flushes_of_one_domain_are() -> None:
    machine, _ = p2m_machine()
    events, _ = run(machine, flushes(1), flushes(1))
    assert names(events, "lock.acquire", "lock.release") == ["lock.acquire", "lock.release"] * 2
