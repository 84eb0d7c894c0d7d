"""Eight CPUs, four devices and three domains, running freely on Trio with random checkpoints."""

import random

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Limits
from emu.engine.hosts import direct, free
from emu.engine.strategies.random import RandomStrategy
from emu.hypervisor.domain import Domain, OuterLock
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn

CPUS, CALLS, ACCESSES, PAGES = 8, 12, 40, 8
DEVICES = (("00:1f.0", "00:1f.1"), ("00:02.0",), ("03:00.0",))


@attrs.frozen
class Crowd:
    """CPUs that map, unmap and flush pages which devices use, each drawing what to do next from one generator."""

    machine: Machine
    domains: list[Domain]
    frames: list[Mfn]
    generator: random.Random
    outer_lock: OuterLock

    def draw(self, count: int) -> int:
        return int(self.generator.random() * count)

    async def remap(self, cpu: Cpu, domain: Domain) -> None:
        hypervisor, order = self.machine.hypervisor, self.draw(3)
        dfn = Dfn((self.draw(PAGES) >> order) << order)
        async with domain.outer_lock(cpu, self.outer_lock):
            match self.draw(4):
                case 0:
                    await hypervisor.unmap(cpu, domain, dfn, page_order=order)
                case 1:
                    await hypervisor.flush(cpu, domain, dfn, pages=1 << order)
                case _:
                    flags = READ_WRITE if self.draw(3) else MapFlags.READABLE
                    mfn = self.frames[self.draw(len(self.frames))]
                    await hypervisor.map(cpu, domain, dfn, mfn, page_order=order, flags=flags)

    async def remap_any_domain(self, cpu: Cpu) -> None:
        await self.remap(cpu, self.domains[self.draw(len(self.domains))])

    async def serve_hypercalls(self, cpu: Cpu) -> None:
        for _ in range(CALLS):
            async with cpu.hypercall("memory_op"):
                if self.draw(4) == 0:
                    cpu.raise_softirq(self.remap_any_domain)
                await self.remap_any_domain(cpu)

    async def stream(self, device: Device) -> None:
        for count in range(ACCESSES):
            dfn = Dfn(self.draw(PAGES))
            await (device.read(dfn) if self.draw(2) else device.write(dfn, count))


def crowd(
    generator: random.Random,
    outer_lock: OuterLock,
    vtd: VtdSettings = VtdSettings(iotlb_entries=3),
    revision: str = "v1",
) -> Machine:
    """Return a machine with everybody on it."""
    limits = Limits(steps=500_000)
    machine = Machine(Description(revision, settings=vtd, limits=limits, is_checking=True))
    domains = [machine.domain(number, devices=devices) for number, devices in enumerate(DEVICES)]
    frames = [machine.allocate(page_order=2) for _ in range(6)]
    everybody = Crowd(machine, domains, frames, generator, outer_lock)
    for number in range(CPUS):
        machine.cpu(number).runs(everybody.serve_hypercalls)
    for bdf in (bdf for devices in DEVICES for bdf in devices):
        machine.device(bdf).runs(everybody.stream)
    return machine


@pytest.mark.parametrize("seed", range(4))
async def test_callers_that_hold_their_lock_across_the_flush_never_meet_a_stale_translation(seed: int) -> None:
    generator = random.Random(seed)
    machine = crowd(generator, OuterLock.ACROSS_FLUSH)
    execution = machine.execution(RandomStrategy.seeded(seed))
    await free.run(execution, generator)
    assert machine.conclude(execution) == []
    assert all(agent.is_done for agent in machine.agents if not agent.is_daemon)


@pytest.mark.parametrize("seed", range(4))
async def test_naked_wrappers_are_stale_at_worst_and_cpus_wait_for_the_mapping_lock(seed: int) -> None:
    generator = random.Random(seed)
    machine = crowd(generator, OuterLock.NONE)
    execution = machine.execution(RandomStrategy.seeded(seed))
    await free.run(execution, generator)
    assert {finding.kind for finding in machine.conclude(execution)} <= {FindingKind.STALE}
    events = list(machine.trace.events())
    waits = [event.fields for event in events if event.name == "lock.acquire" and "waited" in event.fields]
    for_mapping = [keys for keys in waits if keys["lock"].endswith("mapping_lock")]
    assert for_mapping
    assert all(keys["waited_for"].startswith("cpu") and keys["waited"] > 0 for keys in for_mapping)
    seen = {event.name for event in events}
    assert {"softirq.run", "choice", "iotlb.hit", "iotlb.fill", "dma.fault", "invalidate.complete"} <= seen


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize("coherent", [True, False])
@pytest.mark.parametrize("write_buffer", [True, False])
@pytest.mark.parametrize("caching_mode", [True, False])
def test_under_every_setting_of_the_hardware_callers_with_locks_meet_at_most_cached_faults(
    revision: str, coherent: bool, write_buffer: bool, caching_mode: bool
) -> None:
    vtd = VtdSettings(caching_mode=caching_mode, coherent=coherent, write_buffer=write_buffer)
    machine = crowd(random.Random(7), OuterLock.ACROSS_FLUSH, vtd, revision)
    execution = machine.execution(RandomStrategy.seeded(7))
    direct.run(execution)
    kinds = {finding.kind for finding in machine.conclude(execution)}
    assert kinds == ({FindingKind.STALE_FAULT} if caching_mode else set())
