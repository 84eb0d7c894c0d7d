"""What a machine is made of, before anything of it exists."""

from collections.abc import Mapping

import attrs

from emu.engine import Limits
from emu.hypervisor.faults import Fault
from emu.hypervisor.revisions.loader import Revision, load_revision
from emu.iommus.vtd.unit import VtdSettings


@attrs.frozen
class Description:
    """What a machine is made of.

    Attributes:
        revision: of the hypervisor's wrappers.
        levels: of page tables, 3 or 4.
        vtd: what each of its VT-d units can do.
        faults: how many of each sort the strategy may inject on a CPU.
        sources: keep the source lines of every step.
        is_checking: every read of a check must have been declared.
    """

    revision: Revision = attrs.field(factory=lambda: load_revision("v1"))
    levels: int = attrs.field(default=4, validator=attrs.validators.in_((3, 4)))
    vtd: VtdSettings = attrs.field(factory=VtdSettings)
    faults: Mapping[Fault, int] = attrs.field(factory=dict)
    limits: Limits = attrs.field(factory=Limits)
    sources: bool = False
    is_checking: bool = False
