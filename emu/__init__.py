"""emu: finds, proves and explains stale-IOTLB races.

The map, in the order in which to read; each package has one of its own, of its files.

errors.py units.py   What can go wrong that is no finding? What is a dfn, and what an mfn?
files/        How is a file read that a user names, bounded; how is one written, whole or not at all?
bundled/      Where are scenarios and benchmarks, in a checkout and in a wheel?
engine/       Who takes the next step, which orders of steps matter, how is a schedule repeated? It knows no hardware.
memory.py     What has each word held, and which of it may a page-table walker read now?
cpus/         What can a CPU do in one step: per-CPU variables, spinlocks, signals? When do softirqs run?
iommus/       Which translations may a unit use (ledger.py), and which does it cache? vtd/: how does it invalidate?
devices/      How does a device come from a dfn to memory: look up, walk, fill, access? What are posted writes?
hypervisor/   What does Xen do on map, unmap and flush (revisions/), who calls it (calls.py), what is below it (vtd/)?
platforms.py  Which vendors are there, and what makes their units and drivers?
checks/       What has a call promised, what breaks a promise, and when are two findings one?
machine/      How are memory, units, CPUs, devices, domains and checks wired together?
scenarios/    What is a scenario: its parameters, its verdicts, where it is found?
analysis/     What does a trace tell afterwards: windows, cycles, explanations, source lines?
running/      How is a scenario run, explored, replayed, confirmed, saved, and compared with a base?
bench/        Does the search count what others have counted, and what does a step cost?
reports/      In which words is it said, to people and to programs?
cli/          What does each command take, and with which status does it end? A file for each.

Each imports only from its own line and those above, and nothing here is imported before it is used. A scenario imports
what it needs from `emu` itself. docs/architecture.md follows a store and a schedule through all of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpus import Cpu
    from emu.devices.device import Device
    from emu.errors import ScenarioError
    from emu.hypervisor.boot import Boot, RamType
    from emu.hypervisor.callers import Callers, Locks
    from emu.hypervisor.domain import DOMID_IO, Domain, IommuUse, OuterLock
    from emu.hypervisor.fixes import Fix
    from emu.hypervisor.ops import (
        EINVAL,
        ENODEV,
        ENOMEM,
        ERESTART,
        ETIMEDOUT,
        OK,
        READ_WRITE,
        FlushType,
        IommuOps,
        MapFlags,
        iommu_dont_flush_iotlb,
    )
    from emu.hypervisor.p2m_types import P2mType
    from emu.hypervisor.page_list import PageType
    from emu.hypervisor.physmap import Form, Physmap
    from emu.iommus.settings import Bounds
    from emu.machine.machine import Machine
    from emu.scenarios.expectation import (
        ASSERTION,
        BEYOND_RANGE,
        CLEAN,
        DEADLOCK,
        FOREIGN,
        FREED_TABLE,
        GAP,
        LATE,
        LOST_ERROR,
        NO_BREAK,
        NOT_ISOLATED,
        NOT_ROLLED_BACK,
        OVERRUN,
        OWED,
        RELEASED,
        STALE,
        STALE_FAULT,
        STALE_OBSERVED,
        TORN,
        WRONG_RESULT,
        Expectation,
    )
    from emu.scenarios.parameters import PageOrder
    from emu.scenarios.scenario import scenario
    from emu.units import Dfn, Mfn, offset, page_count

__all__ = [
    "ASSERTION",
    "BEYOND_RANGE",
    "CLEAN",
    "DEADLOCK",
    "DOMID_IO",
    "EINVAL",
    "ENODEV",
    "ENOMEM",
    "ERESTART",
    "ETIMEDOUT",
    "FOREIGN",
    "FREED_TABLE",
    "GAP",
    "LATE",
    "LOST_ERROR",
    "NOT_ISOLATED",
    "NOT_ROLLED_BACK",
    "NO_BREAK",
    "OK",
    "OVERRUN",
    "OWED",
    "READ_WRITE",
    "RELEASED",
    "STALE",
    "STALE_FAULT",
    "STALE_OBSERVED",
    "TORN",
    "WRONG_RESULT",
    "Boot",
    "Bounds",
    "Callers",
    "Cpu",
    "Device",
    "Dfn",
    "Domain",
    "Expectation",
    "Fix",
    "FlushType",
    "Form",
    "IommuOps",
    "IommuUse",
    "Locks",
    "Machine",
    "MapFlags",
    "Mfn",
    "OuterLock",
    "P2mType",
    "PageOrder",
    "PageType",
    "Physmap",
    "RamType",
    "ScenarioError",
    "iommu_dont_flush_iotlb",
    "offset",
    "page_count",
    "scenario",
]

PLACES = {
    "emu.cpus": "Cpu",
    "emu.devices.device": "Device",
    "emu.errors": "ScenarioError",
    "emu.hypervisor.boot": "Boot RamType",
    "emu.hypervisor.callers": "Callers Locks",
    "emu.hypervisor.domain": "DOMID_IO Domain IommuUse OuterLock",
    "emu.hypervisor.fixes": "Fix",
    "emu.hypervisor.ops": (
        "EINVAL ENODEV ENOMEM ERESTART ETIMEDOUT OK READ_WRITE FlushType IommuOps MapFlags iommu_dont_flush_iotlb"
    ),
    "emu.hypervisor.p2m_types": "P2mType",
    "emu.hypervisor.page_list": "PageType",
    "emu.hypervisor.physmap": "Form Physmap",
    "emu.iommus.settings": "Bounds",
    "emu.machine.machine": "Machine",
    "emu.scenarios.expectation": (
        "ASSERTION BEYOND_RANGE CLEAN DEADLOCK FOREIGN FREED_TABLE GAP LATE LOST_ERROR NO_BREAK NOT_ISOLATED "
        "NOT_ROLLED_BACK OVERRUN OWED RELEASED STALE STALE_FAULT STALE_OBSERVED TORN WRONG_RESULT Expectation"
    ),
    "emu.scenarios.parameters": "PageOrder",
    "emu.scenarios.scenario": "scenario",
    "emu.units": "Dfn Mfn offset page_count",
}
"""Where each of these names is defined. The imports above say the same to type checkers; a test compares the two."""

MODULES = {name: module for module, names in PLACES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a name when it is first used.

    Raises:
        AttributeError: if it is none of `__all__`.
    """
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(MODULES[name]), name)
    globals()[name] = found
    return found
