"""The witness: an access that is appended to a schedule, by which a device uses a stale translation."""

from typing import TypeGuard

import attrs

from emu.checks.details import Evidence
from emu.checks.findings import Finding, OldPath
from emu.machine.machine import Machine
from emu.units import Dfn


@attrs.frozen
class Witness:
    """An access that is appended to a schedule: a device of the domain reads a page."""

    device: str
    dfn: int

    @classmethod
    def of(cls, finding: OldPath, machine: Machine) -> "Witness":
        """Return the access that can show a finding, by a device for which the unit may use the translation."""
        return cls(machine.user_of(finding).bdf, finding.dfn)

    def join(self, machine: Machine) -> str:
        """Let a device of a machine make the access, besides its other accesses; return the name of the new agent."""
        return machine.add_witness(self.device, Dfn(self.dfn))


def is_used(finding: Finding | None) -> TypeGuard[OldPath]:
    """Whether a device has used a stale translation."""
    return isinstance(finding, OldPath) and finding.evidence is Evidence.OBSERVED


def is_usable(finding: Finding | None) -> TypeGuard[OldPath]:
    """Whether a device could use a stale translation, and none has."""
    return isinstance(finding, OldPath) and finding.evidence is Evidence.POSSIBLE
