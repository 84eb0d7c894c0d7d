"""Platforms: the name, units, driver and revisions of each vendor. Code above knows a vendor only by its platform."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from emu.devices.device import Device
from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.errors import ScenarioError
from emu.hypervisor.amd.driver import AmdDriver
from emu.hypervisor.driver import Driver
from emu.hypervisor.faults import Faults
from emu.hypervisor.revisions.loader import (
    BUNDLED,
    P2M_FILE,
    X86_FILE,
    Revision,
    bundled_name,
    is_bundled,
    load_revision,
)
from emu.hypervisor.smmu.driver import SmmuDriver
from emu.hypervisor.smmu.v3.driver import Smmuv3Driver
from emu.hypervisor.vtd.driver import VtdDriver
from emu.iommus.amd.settings import REFUSED, AmdSettings
from emu.iommus.amd.unit import AmdUnit
from emu.iommus.settings import UnitSettings
from emu.iommus.smmu.settings import REFUSED as SMMU_REFUSED
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.smmu.unit import SmmuUnit
from emu.iommus.smmu.v3.settings import REFUSED as SMMUV3_REFUSED
from emu.iommus.smmu.v3.settings import Smmuv3Settings
from emu.iommus.smmu.v3.unit import Smmuv3Unit
from emu.iommus.unit import Unit
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.vtd.unit import VtdUnit
from emu.memory import Memory
from emu.units import frame_address


@attrs.frozen(eq=False)
class Platform:
    """The IOMMUs of one vendor and the software that drives them.

    Attributes:
        name: the name in `-p iommu=NAME`; its units are NAME0, NAME1, ..., a revision's hooks are in NAME.py.
        settings: makes the settings of a unit; each field made with `setting` is a parameter of a machine.
        make_unit: makes a unit from its name, its settings, the memory, the trace and the recorder.
        make_driver: makes the driver, without any unit, from the memory, the devices and the faults.
        load_revision: loads a revision, whose `make_ops` makes the driver's hooks (`IommuOps`).
        refused: settings of other vendors that its units lack, each with the reason.
        small: parameters with which a machine has few traces.
        tried: the settings that a check tries with each scenario's small form, one at a time.
        apart: why a scenario that names no vendor is not for it; empty if it is.
        revisions: those of emu's revisions that its machines run.
        revision: the one that they run unless another is named.
        of_its_time: why they run these only.
    """

    name: str
    settings: Callable[..., UnitSettings]
    make_unit: Callable[[str, Any, Memory, Trace, ReadRecorder], Unit]
    make_driver: Callable[[Memory, Mapping[str, Device], Faults], Driver]
    load_revision: Callable[[str], Revision]
    small: Mapping[str, str] = attrs.field(factory=dict)
    refused: Mapping[str, str] = attrs.field(factory=dict)
    tried: tuple[str, ...] = ()
    apart: str = ""
    revisions: tuple[str, ...] = BUNDLED
    revision: str = "v1"
    of_its_time: str = "the other revisions have no hooks for it"

    @property
    def hooks_file(self) -> str:
        """The file of a revision that has the driver's hooks."""
        return f"{self.name}.py"

    def refuse_revision(self, name: str) -> None:
        """Refuse a revision of emu's that its machines do not run.

        Raises:
            ScenarioError: naming those that they run, and why.
        """
        if is_bundled(name) and bundled_name(name) not in self.revisions:
            raise ScenarioError(
                f"{self.name} does not run the revision {bundled_name(name)}, but {', '.join(self.revisions)}: "
                f"{self.of_its_time}"
            )


FAULTS = ("hook_faults=1", "allocation_faults=1")
"""Settings that are tried with every vendor."""


def make_vtd_driver(memory: Memory, devices: Mapping[str, Device], faults: Faults) -> Driver:
    """Return the VT-d driver, with a frame for the status words that units write for waiting CPUs."""
    return VtdDriver(frame_address(memory.allocate_data()), devices, faults=faults)


VTD = Platform(
    "vtd",
    VtdSettings,
    VtdUnit,
    make_vtd_driver,
    partial(load_revision, hooks_file="vtd.py", hooks_class="IntelIommuOps", glue_file=X86_FILE),
    {"levels": "3", "synchronous": "true", "walk_at_once": "true"},
    tried=("coherent=false", "caching_mode=true", "write_buffer=true", *FAULTS, "wait_faults=1"),
)


def make_amd_driver(memory: Memory, devices: Mapping[str, Device], faults: Faults) -> Driver:
    """Return the AMD-Vi driver."""
    return AmdDriver(devices, faults=faults)


AMD = Platform(
    "amd",
    AmdSettings,
    AmdUnit,
    make_amd_driver,
    partial(load_revision, hooks_file="amd.py", hooks_class="AmdIommuOps", glue_file=X86_FILE),
    {"levels": "2", "synchronous": "true", "walk_at_once": "true"},
    REFUSED,
    ("np_cache=true", *FAULTS),  # no wait fault: one passes for a completed wait, so every flush would show it
)


def make_smmu_driver(memory: Memory, devices: Mapping[str, Device], faults: Faults) -> Driver:
    """Return the driver of SMMUs."""
    return SmmuDriver(devices, faults=faults)


SMMU = Platform(
    "smmu",
    SmmuSettings,
    SmmuUnit,
    make_smmu_driver,
    partial(load_revision, hooks_file="smmu.py", hooks_class="ArmSmmuOps", glue_file=P2M_FILE, needs_glue=True),
    {"synchronous": "true", "walk_at_once": "true"},
    SMMU_REFUSED,
    ("coherent=false", "allocation_faults=1", "wait_faults=1"),  # no hook fault: few scenarios call a hook
    "on Arm the hooks map a page to the frame of its own number only, and only for the hardware domain",
)


def make_smmuv3_driver(memory: Memory, devices: Mapping[str, Device], faults: Faults) -> Driver:
    """Return the driver of SMMUv3s."""
    return Smmuv3Driver(devices, faults=faults)


SMMUV3 = Platform(
    "smmuv3",
    Smmuv3Settings,
    Smmuv3Unit,
    make_smmuv3_driver,
    partial(load_revision, hooks_file="smmuv3.py", hooks_class="ArmSmmuV3Ops", glue_file=P2M_FILE, needs_glue=True),
    {"ipa_bits": "32", "synchronous": "true", "walk_at_once": "true"},
    SMMUV3_REFUSED,
    ("coherent=false", "aarch32=true", "allocation_faults=1", "wait_faults=1"),  # as for the SMMUv2
    "on Arm callers change the p2m, and the hooks serve grants of the hardware domain only",
    ("today",),
    "today",
    "Xen's driver for the SMMUv3 is of 2020, and younger than the patch that the others are about",
)

PLATFORMS: Mapping[str, Platform] = {one.name: one for one in (VTD, AMD, SMMU, SMMUV3)}
"""The platforms by the name that `-p iommu=NAME` takes."""
