"""A result without findings says how often the checks judged each kind of step."""

import pytest

from emu.analysis.judged import Judged
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.assignment import HandOver
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.reports.judged import judged_clause
from emu.scenarios.library import find
from emu.units import Dfn


def judged(machine: Machine) -> Judged:
    """Return how often each check was asked in one execution of a machine."""
    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    found = Judged()
    found.add(execution.trace)
    return found


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("remap_before_flush", {}, Judged(returns=2)),
        ("remap_before_flush", {"dma": "2", "repaired": "true"}, Judged(returns=2, accesses=2)),
        ("free_before_flush", {"revision": "merged"}, Judged(returns=1, deferred=1, releases=2)),
        ("detach_one_of_two_devices", {}, Judged(returns=1, releases=1, assignments=1)),
    ],
)
def test_each_check_is_counted_as_often_as_it_was_asked(
    name: str, parameters: dict[str, str], expected: Judged
) -> None:
    assert judged(find(name).bind(parameters).build()) == expected


@pytest.mark.parametrize("is_after", [False, True])
def test_an_access_of_a_device_whose_domain_has_changed_is_counted_separately(is_after: bool) -> None:
    machine = Machine(Description())
    domain, written = machine.domain(1, devices=("00:1f.0",)), machine.signal("written")
    machine.domain(2)
    machine.premap(domain, Dfn(0x10), machine.allocate())
    given = machine.signal("given")

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        if not is_after:
            await written.wait()
        await HandOver(machine.devices["00:1f.0"], 2)
        await given.send()

    @machine.device("00:1f.0")
    async def writer(device: Device) -> None:
        if is_after:
            await given.wait()
        await device.write(Dfn(0x10), 1)
        await written.send()

    assert judged(machine) == Judged(accesses=1, assignments=1, accesses_after=int(is_after))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Judged(returns=4), "4 returns, no deferred call, access, release or assignment"),
        (Judged(1, 1, 1, 1, 1, 1), "1 return, 1 deferred call, 1 access, 1 release, 1 assignment"),
        (Judged(2, 3, 3, 2, 0), "2 returns, 3 deferred calls, 3 accesses, 2 releases, no assignment"),
        (
            Judged(0, 0, 2, 0, 52),
            "2 accesses, 52 assignments, no return, deferred call or release; no access came after an assignment",
        ),
        (Judged(), "no return, deferred call, access, release or assignment"),
    ],
)
def test_the_judged_and_the_never_judged_kinds_are_one_clause(counts: Judged, said: str) -> None:
    assert judged_clause(counts) == f"; judged in all: {said}"
