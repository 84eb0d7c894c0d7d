"""The description of a machine, from which its parts are made."""

from collections.abc import Mapping

import attrs

from emu.engine import Limits
from emu.hypervisor.faults import Fault
from emu.iommus.settings import UnitSettings
from emu.platforms import VTD, Platform


@attrs.frozen
class Description:
    """The parts and settings of a machine.

    Attributes:
        revision: the revision of the hypervisor's wrappers, by name or by folder.
        platform: the vendor.
        settings: the settings of each unit; by default the vendor's.
        widening_faults: a unit may refuse an access by a table entry that it cached before the entry permitted more.
        faults: how many faults of each sort the strategy may inject on a CPU.
        debug_build: an ASSERT of Xen that does not hold is a finding.
        break_for_units: an entry must not take the place of another one that a unit may still use.
        refuse_gaps: a page that is mapped before and after a change must not be unmapped between.
        sources: keep the source lines of every step.
        is_checking: every read of a check must have been declared.
        is_counting: nothing is judged, and neither events nor the histories of words are kept: only what units count.
    """

    revision: str = "v1"
    platform: Platform = VTD
    settings: UnitSettings = attrs.field()
    widening_faults: bool = False
    faults: Mapping[Fault, int] = attrs.field(factory=dict)
    limits: Limits = attrs.field(factory=Limits)
    debug_build: bool = False
    break_for_units: bool = False
    refuse_gaps: bool = False
    sources: bool = False
    is_checking: bool = False
    is_counting: bool = False

    @settings.default
    def as_the_vendors_are(self) -> UnitSettings:
        return self.platform.settings()
