"""What the units of one machine have in common: how they see memory, and the format of the tables that they walk."""

from collections.abc import Sequence

from emu.errors import ScenarioError
from emu.iommus.unit import Unit
from emu.memory import Memory


def check_unit(unit: Unit, others: Sequence[Unit], memory: Memory) -> None:
    """Refuse a unit that does not fit into a machine.

    Raises:
        ScenarioError: if the unit and the machine's other units see memory differently, or walk different tables.
    """
    for does, ours, theirs in (
        ("snoop the CPUs' caches", memory.is_coherent, unit.settings.coherent),
        ("have a write buffer before them", memory.has_write_buffer, unit.settings.write_buffer),
    ):
        if ours != theirs:
            raise ScenarioError(
                f"the walks of {unit.name} {does if theirs else f'do not {does}'}, and those of this machine's "
                f"other units {'do' if ours else 'do not'}: give all units of a machine the same setting"
            )
    for other in others[:1]:
        if unit.format is not other.format:
            raise ScenarioError(
                f"{unit.name} walks other tables than {other.name}: give all units of a machine the same superpage_bits"
            )
