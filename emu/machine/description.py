"""What a machine is made of, before anything of it exists."""

from collections.abc import Mapping

import attrs

from emu.engine import Limits
from emu.hypervisor.faults import Fault
from emu.iommus.settings import UnitSettings
from emu.platforms import VTD, Platform


@attrs.frozen
class Description:
    """What a machine is made of.

    Attributes:
        revision: of the hypervisor's wrappers, by name or by folder.
        platform: the vendor.
        settings: of each of its units; what the vendor's are unless a user sets them.
        widening_faults: what was cached of a table entry before it was given more permissions may refuse an access.
        faults: how many of each sort the strategy may inject on a CPU.
        refuse_gaps: a page that is mapped before and after a change must not be unmapped between.
        sources: keep the source lines of every step.
        is_checking: every read of a check must have been declared.
    """

    revision: str = "v1"
    platform: Platform = VTD
    settings: UnitSettings = attrs.field()
    widening_faults: bool = False
    faults: Mapping[Fault, int] = attrs.field(factory=dict)
    limits: Limits = attrs.field(factory=Limits)
    refuse_gaps: bool = False
    sources: bool = False
    is_checking: bool = False

    @settings.default
    def as_the_vendors_are(self) -> UnitSettings:
        return self.platform.settings()
