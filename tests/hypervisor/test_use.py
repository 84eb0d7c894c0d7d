"""How the IOMMU is used for a domain decides whether the hooks and the wrappers do anything."""

import pytest

from emu.checks.findings import Asserted
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.domain import IommuUse
from emu.hypervisor.ops import OK
from emu.hypervisor.revisions.loader import BUNDLED
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import PLATFORMS
from emu.units import Dfn, Mfn

G = Dfn(0x10)
EACH = pytest.mark.parametrize("revision", BUNDLED)
VENDORS = pytest.mark.parametrize("vendor", [name for name, one in PLATFORMS.items() if not one.apart])

DEVICES = {IommuUse.SEPARATE: ("00:1f.0",), IommuUse.SHARED: ("00:1f.0",)}


def called(vendor: str, revision: str, use: IommuUse, missing: tuple[str, ...] = ()) -> Machine:
    """Return a machine after a CPU has mapped and unmapped a page, and flushed it and its domain."""
    machine = Machine(Description(revision, PLATFORMS[vendor], is_checking=True))
    machine.hooks.missing |= set(missing)
    domain, frame = machine.domain(0, devices=DEVICES.get(use, ()), use=use), machine.allocate(at=Mfn(G))

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        assert await machine.hypervisor.map(cpu, domain, G, frame) == OK
        assert await machine.hypervisor.unmap(cpu, domain, G) == OK
        assert await machine.hypervisor.flush(cpu, domain, G, pages=1) == OK
        assert await machine.hypervisor.flush_all(cpu, domain) == OK

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    machine.conclude(execution)
    return machine


def stores(machine: Machine) -> list[str]:
    return [event.name for event in machine.trace.events() if event.name in {"pte.write", "pte.clear"}]


@EACH
@VENDORS
@pytest.mark.parametrize("use", [IommuUse.SHARED, IommuUse.OFF])
def test_hooks_leave_tables_alone_that_are_not_theirs_and_nothing_is_found(
    vendor: str, revision: str, use: IommuUse
) -> None:
    machine = called(vendor, revision, use)
    assert stores(machine) == []
    assert machine.findings == []


@EACH
def test_hooks_of_vtd_do_nothing_for_a_domain_that_is_passed_through_and_those_of_amd_do(revision: str) -> None:
    assert stores(called("vtd", revision, IommuUse.PASSTHROUGH)) == []
    assert "pte.write" in stores(called("amd", revision, IommuUse.PASSTHROUGH))


@EACH
def test_hooks_of_the_smmu_change_the_tables_of_the_cpus_which_are_always_shared_on_arm(revision: str) -> None:
    assert stores(called("smmu", revision, IommuUse.SHARED)) == ["pte.write", "pte.write", "pte.write", "pte.clear"]


@EACH
def test_where_the_smmu_is_not_used_they_are_not_called(revision: str) -> None:
    machine = called("smmu", revision, IommuUse.OFF)
    assert (stores(machine), machine.counters.posted, machine.findings) == ([], 0, [])


@EACH
@VENDORS
def test_where_there_is_no_iommu_nothing_is_flushed(vendor: str, revision: str) -> None:
    assert called(vendor, revision, IommuUse.OFF).counters.posted == 0


@VENDORS
@pytest.mark.parametrize(("revision", "flushes"), [("implicit", 2), ("v1", 3), ("merged", 2)])
def test_the_unmap_of_v1_flushes_shared_tables_in_which_it_changed_nothing(
    vendor: str, revision: str, flushes: int
) -> None:
    assert called(vendor, revision, IommuUse.SHARED).counters.flushes == flushes


@EACH
@VENDORS
def test_a_wrapper_asks_whether_there_is_a_hook_to_flush_before_it_calls_one(vendor: str, revision: str) -> None:
    machine = called(vendor, revision, IommuUse.SEPARATE, missing=("iotlb_flush", "iotlb_flush_all"))
    assert [one for one in machine.found() if isinstance(one, Asserted)] == []


@pytest.mark.parametrize(
    ("number", "devices", "use", "said"),
    [
        (1, (), IommuUse.PASSTHROUGH, "domain 1 cannot be passed through"),
        (0, ("00:1f.0",), IommuUse.PASSTHROUGH, "no tables translate for the devices of domain 0"),
        (1, ("00:1f.0",), IommuUse.OFF, "no tables translate for the devices of domain 1"),
    ],
)
def test_a_domain_that_cannot_be_is_refused(number: int, devices: tuple[str, ...], use: IommuUse, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        Machine(Description()).domain(number, devices=devices, use=use)
