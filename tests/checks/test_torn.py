"""*torn*: an entry that is replaced in two stores leads nowhere between them where neither the old nor the new leads.

A CPU stores the high half first: bits 51:32 of the address, and the permissions. Frames below 4 GiB have the high half
0, those from 8 GiB on have 2 or more.
"""

from collections.abc import Callable, Sequence

import attrs
import pytest

from emu.checks.details import Evidence
from emu.checks.findings import Finding, FindingKind, Torn
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Agent, Choose
from emu.engine.hosts import direct
from emu.hypervisor.entries import StoreEntry
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.places import Half
from emu.machine.machine import Machine
from emu.reports.findings import sentence
from emu.units import Dfn, Mfn, frame_address
from tests.amd import amd_machine
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
LOW, LOW_TOO, HIGH, HIGHER = Mfn(0x1000), Mfn(0x2000), Mfn(0x20_0003), Mfn(0x30_0004)
MIXED = Mfn(0x20_1000)
"""The high half of HIGH's address, and the low half of LOW's."""

READ, WRITE = MapFlags.READABLE, MapFlags.WRITABLE


@attrs.frozen
class Leaf:
    """A leaf as a call maps it."""

    frame: Mfn
    flags: MapFlags = READ_WRITE


def mapped(leaf: Leaf | None, *, devices: Sequence[str] = (NIC,), revision: str = "v1") -> Machine:
    """Return a machine whose domain 1 maps a frame at G, or none."""
    machine = amd_machine(revision=revision)
    domain = machine.domain(1, devices=devices)
    for frame in (LOW, LOW_TOO, HIGH, HIGHER):
        machine.allocate(at=frame)
    machine.premap(domain, Dfn(G + 1), machine.allocate())
    if leaf is not None:
        machine.premap(domain, G, leaf.frame, flags=leaf.flags)
    return machine


def maps(machine: Machine, leaf: Leaf, cpu: int = 0) -> None:
    """Have a CPU map a frame at G."""

    @machine.cpu(cpu)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, leaf.frame, flags=leaf.flags)


def found(execute: Execute, old: Leaf | None, new: Leaf, **others: str) -> list[Finding]:
    """Return what shows when a call maps a leaf in the place of another."""
    machine = mapped(old, **others)
    maps(machine, new)
    return execute(machine)


# What is one half of each


def test_a_frame_that_neither_entry_leads_to_is_found_with_both_stores(execute: Execute) -> None:
    machine = mapped(Leaf(LOW))
    maps(machine, Leaf(HIGH))
    (finding,) = execute(machine)
    assert isinstance(finding, Torn)
    stores = steps(machine.trace.events(), "pte.write", table_level=1)
    assert finding.steps == (stores[0], stores[1])
    assert (finding.agent, finding.domain, finding.dfn, finding.unit, finding.frame) == ("cpu0", 1, G, "amd0", MIXED)
    # PR is 1, FC | IR | IW 7 << 60; the addresses are the frames times 0x1000
    assert finding.words == (0x7000_0000_0100_0001, 0x7000_0002_0100_0001, 0x7000_0002_0000_3001)
    assert (finding.evidence, finding.use) == (Evidence.POSSIBLE, None)


def test_the_sentence_names_both_stores_both_entries_and_the_third_frame(execute: Execute) -> None:
    machine = mapped(Leaf(LOW))
    maps(machine, Leaf(HIGH))
    (finding,) = execute(machine)
    first, second = steps(machine.trace.events(), "pte.write", table_level=1)
    assert sentence(finding, machine.trace).startswith(
        f"torn entry (possible): cpu0 replaced the entry of domain 1 dfn 0x10 in two stores, at steps {first} and "
        f"{second}; between them walks of amd0 found 0x7000000201000001, which leads to mfn 0x201000: one half of "
        "0x7000000001000001 and one of 0x7000000200003001"
    )


@pytest.mark.parametrize(
    ("old", "new", "frame"),
    [
        (Leaf(LOW), Leaf(HIGH), MIXED),
        (Leaf(HIGH), Leaf(LOW), Mfn(0x3)),
        (Leaf(HIGH), Leaf(HIGHER), Mfn(0x30_0003)),
        # the high halves are equal but for the permissions: the old frame is reached as neither entry permits
        (Leaf(LOW, READ), Leaf(LOW_TOO), LOW),
        (Leaf(LOW, READ), Leaf(LOW_TOO, WRITE), LOW),
        (Leaf(LOW, WRITE), Leaf(LOW_TOO, READ), LOW),
    ],
)
@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
def test_it_is_found_whatever_the_revision(execute: Execute, old: Leaf, new: Leaf, frame: Mfn, revision: str) -> None:
    (finding,) = found(execute, old, new, revision=revision)
    assert isinstance(finding, Torn)
    assert finding.frame == frame


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, Leaf(HIGH)),
        (Leaf(LOW, MapFlags(0)), Leaf(LOW)),
        (Leaf(LOW), Leaf(LOW_TOO)),
        (Leaf(HIGH), Leaf(HIGH)),
        (Leaf(HIGH), Leaf(HIGH, READ)),
        (Leaf(HIGH, READ), Leaf(HIGH, WRITE)),
        (Leaf(LOW), Leaf(LOW_TOO, READ)),
    ],
    ids=["not present", "no access", "equal high halves", "equal", "downgrade", "other right", "less right elsewhere"],
)
def test_what_is_part_of_the_old_or_of_the_new_entry_is_not_found(
    execute: Execute, old: Leaf | None, new: Leaf
) -> None:
    assert found(execute, old, new) == []


def test_an_entry_that_is_cleared_is_stored_in_one_step_and_nothing_is_found(execute: Execute) -> None:
    machine = mapped(Leaf(HIGH))

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)

    assert execute(machine) == []
    assert len(steps(machine.trace.events(), "pte.clear")) == 1


def test_a_driver_that_stores_entries_in_one_step_shows_nothing(execute: Execute) -> None:
    machine = mapped(Leaf(LOW))
    machine.driver.fixes.add(Fix.XSA_347)
    maps(machine, Leaf(HIGH))
    assert execute(machine) == []
    assert len(steps(machine.trace.events(), "pte.write", table_level=1)) == 1


@pytest.mark.parametrize(("devices", "count"), [((), 0), ((NIC,), 1), ((NIC, DISK), 1)])
def test_it_is_found_once_for_each_unit_that_translates_by_the_table(
    execute: Execute, devices: Sequence[str], count: int
) -> None:
    machine = mapped(Leaf(LOW), devices=devices)
    maps(machine, Leaf(HIGH))
    assert [finding.kind for finding in execute(machine)] == [FindingKind.TORN] * count


def test_it_is_found_once_where_devices_were_given_to_the_domain_at_different_times(execute: Execute) -> None:
    machine = mapped(Leaf(LOW))
    machine.plug(DISK)

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await machine.assignment.attach(cpu, machine.domains[1], machine.devices[DISK])
        await machine.hypervisor.map(cpu, machine.domains[1], G, HIGH)

    assert [finding.kind for finding in execute(machine)] == [FindingKind.TORN]


def test_it_is_found_on_each_of_two_units(execute: Execute) -> None:
    machine = amd_machine()
    machine.scope(1, DISK)
    machine.premap(machine.domain(1, devices=(NIC, DISK)), G, machine.allocate(at=LOW))
    machine.allocate(at=HIGH)
    maps(machine, Leaf(HIGH))
    assert [finding.unit for finding in execute(machine) if isinstance(finding, Torn)] == ["amd0", "amd1"]


def test_two_cpus_that_replace_an_entry_one_after_the_other_are_found_each_with_its_stores(execute: Execute) -> None:
    machine = mapped(Leaf(LOW))
    maps(machine, Leaf(HIGH), 0)
    maps(machine, Leaf(HIGHER), 1)
    one, other = execute(machine)
    assert isinstance(one, Torn)
    assert isinstance(other, Torn)
    assert {one.agent, other.agent} == {"cpu0", "cpu1"}
    assert one.words[2] == other.words[0]
    assert one.step < other.steps[0]


# What a device uses


@attrs.define
class BetweenHalves:
    """Let the device translate its access between the two stores, and make it there, or after the second of them.

    Attributes:
        later: it is made after the second store.
        begun: the first half is stored.
    """

    later: bool = False
    begun: bool = False

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        between = any(is_second_half(agent) for agent in enabled)
        self.begun = self.begun or between
        devices = [agent for agent in enabled if agent.name == NIC]
        others = [agent for agent in enabled if agent.name != NIC]
        waits = not self.begun or (self.later and between and isinstance(devices[0].pending, Commit))
        return devices[0] if devices and not waits else others[0]

    def choose(self, choice: Choose) -> int:
        return 0


def is_second_half(agent: Agent) -> bool:
    """Whether an agent is about to store the second half of the page's leaf."""
    pending = agent.pending
    return isinstance(pending, StoreEntry) and pending.half is Half.LOW and pending.level == 1


def used(machine: Machine, *, later: bool, is_write: bool = False) -> tuple[list[Finding], list[Mfn]]:
    """Return what shows when a device uses the page between two stores, and the frames that it reached."""

    @machine.device(NIC)
    async def user(device: Device) -> None:
        await (device.write(G, 7) if is_write else device.read(G))

    execution = machine.execution(BetweenHalves(later))
    direct.run(execution)
    made = [event.fields["mfn"] for event in machine.trace.events() if event.name in {"dma.read", "dma.write"}]
    return machine.conclude(execution), made


@pytest.mark.parametrize("later", [False, True])
def test_a_device_that_uses_it_before_or_after_the_second_store_makes_it_observed(later: bool) -> None:
    machine = mapped(Leaf(LOW))
    maps(machine, Leaf(HIGH))
    (finding,), frames = used(machine, later=later)
    assert frames == [MIXED]
    assert isinstance(finding, Torn)
    assert finding.evidence is Evidence.OBSERVED
    assert finding.use is not None
    assert finding.use.device == NIC
    assert (finding.use.step > finding.step) is later
    assert f"device {NIC} used it at step {finding.use.step}" in sentence(finding, machine.trace)


def test_a_device_that_uses_a_part_of_the_old_entry_between_the_stores_shows_nothing() -> None:
    machine = mapped(Leaf(LOW))
    maps(machine, Leaf(LOW_TOO))
    assert used(machine, later=False) == ([], [LOW])


def test_a_device_may_write_where_neither_entry_permits_it() -> None:
    machine = mapped(Leaf(LOW, READ))
    maps(machine, Leaf(LOW_TOO))
    (finding,), frames = used(machine, later=False, is_write=True)
    assert frames == [LOW]
    assert isinstance(finding, Torn)
    assert finding.evidence is Evidence.OBSERVED
    assert machine.memory.peek(frame_address(LOW)) == 7


def test_the_use_names_the_device_of_the_domain_that_made_it() -> None:
    machine = mapped(Leaf(LOW), devices=(NIC, DISK))
    maps(machine, Leaf(HIGH))
    (finding,), _ = used(machine, later=False)
    assert isinstance(finding, Torn)
    assert finding.use is not None
    assert finding.use.device == NIC
