"""emu: finds, proves and explains stale-IOTLB races.

units.py errors.py memory.py   addresses; the tree of errors; what every word has held, and what a walker can see of it
engine/       controlled concurrency for any coroutines: operations, executions, strategies, hosts; knows no hardware
cpus/         physical CPUs: per-CPU variables, spinlocks, softirqs, hypercalls
iommus/       hardware: the protocol of a unit, table formats, IOTLB, ledger; a folder for each vendor
devices/      DMA: look up, walk, fill, access; posted writes
hypervisor/   software: wrappers' callers, domains, frames, page tables; a folder for each vendor, and revisions/
platforms.py  a vendor's name, and what makes its units and its driver
checks/       what must hold, and what was found
machine/ scenarios/   one machine with its cast; a scenario, its parameters, what it declares, where it is found
analysis/     what a trace tells: windows, cycles, explanations, source lines
running/      executions of a scenario: run, explore, replay, confirm, save
bench/        programs whose number of traces is known, and what steps and checks cost
reports/      what people see
cli/          one file a verb
bundled/      scenarios and benchmarks, as a wheel carries them

Each knows only those above it, in this order, and nothing here is imported before it is used. A scenario imports what
it needs from `emu` itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpus import Cpu
    from emu.devices.device import Device
    from emu.errors import ScenarioError
    from emu.hypervisor.domain import DOMID_IO, Domain, OuterLock
    from emu.hypervisor.fixes import Fix
    from emu.hypervisor.ops import (
        EINVAL,
        ENODEV,
        ENOMEM,
        ETIMEDOUT,
        OK,
        READ_WRITE,
        FlushType,
        IommuOps,
        MapFlags,
        iommu_dont_flush_iotlb,
    )
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
        NOT_ISOLATED,
        NOT_ROLLED_BACK,
        OVERRUN,
        OWED,
        RELEASED,
        STALE,
        STALE_FAULT,
        STALE_OBSERVED,
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
    "ETIMEDOUT",
    "FOREIGN",
    "FREED_TABLE",
    "GAP",
    "LATE",
    "LOST_ERROR",
    "NOT_ISOLATED",
    "NOT_ROLLED_BACK",
    "OK",
    "OVERRUN",
    "OWED",
    "READ_WRITE",
    "RELEASED",
    "STALE",
    "STALE_FAULT",
    "STALE_OBSERVED",
    "WRONG_RESULT",
    "Bounds",
    "Cpu",
    "Device",
    "Dfn",
    "Domain",
    "Expectation",
    "Fix",
    "FlushType",
    "Form",
    "IommuOps",
    "Machine",
    "MapFlags",
    "Mfn",
    "OuterLock",
    "PageOrder",
    "Physmap",
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
    "emu.hypervisor.domain": "DOMID_IO Domain OuterLock",
    "emu.hypervisor.fixes": "Fix",
    "emu.hypervisor.ops": (
        "EINVAL ENODEV ENOMEM ETIMEDOUT OK READ_WRITE FlushType IommuOps MapFlags iommu_dont_flush_iotlb"
    ),
    "emu.hypervisor.physmap": "Form Physmap",
    "emu.iommus.settings": "Bounds",
    "emu.machine.machine": "Machine",
    "emu.scenarios.expectation": (
        "ASSERTION BEYOND_RANGE CLEAN DEADLOCK FOREIGN FREED_TABLE GAP LATE LOST_ERROR NOT_ISOLATED NOT_ROLLED_BACK "
        "OVERRUN OWED RELEASED STALE STALE_FAULT STALE_OBSERVED WRONG_RESULT Expectation"
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
