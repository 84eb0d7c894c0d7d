"""What a unit was asked to do, and what that has cost. Software cannot read the counters, so counting takes no step.

Real units have such counters, too (VT-d 11.4.13, performance monitoring; AMD-Vi 2.10, performance counters).
"""

from collections.abc import Iterator

import attrs

WAIT = "wait"
"""The kind of a command that asks to be told when the commands before it have completed."""


@attrs.define
class Counters:
    """The counters of one unit since the first step, or the sum of several.

    Attributes:
        commands: the commands or descriptors posted, by kind: for a kind with a range, its name and the range, such as
            "iotlb order 0" and "iotlb domain".
        flushes: how many of them invalidate cached translations.
        register_reads: reads of the unit's registers by CPUs. A poll counts as one, though it takes more.
        register_writes: writes of the unit's registers by CPUs.
        buffer_flushes: how often they had the chipset's write buffer drained.
        walks: walks of page tables.
        walks_caused: walks for a page whose cached entry an invalidation had dropped although it was still valid.
        dropped: cached translations that invalidations dropped.
        over_flushed: how many of them were still valid.
        lost: what was dropped while it was valid and has not been walked for again: (user, page order, first dfn).
    """

    commands: dict[str, int] = attrs.field(factory=dict)
    flushes: int = 0
    register_reads: int = 0
    register_writes: int = 0
    buffer_flushes: int = 0
    walks: int = 0
    walks_caused: int = 0
    dropped: int = 0
    over_flushed: int = 0
    lost: set[tuple[int, int, int]] = attrs.field(factory=set, repr=False)

    @property
    def waits(self) -> int:
        """How many commands were waits."""
        return self.commands.get(WAIT, 0)

    @property
    def posted(self) -> int:
        """How many commands were posted."""
        return sum(self.commands.values())

    def post(self, kind: str, *, is_flush: bool) -> None:
        """Count a command."""
        self.commands[kind] = self.commands.get(kind, 0) + 1
        self.flushes += is_flush

    def walk(self, keys: Iterator[tuple[int, int, int]]) -> None:
        """Count a walk for the page that may have been cached under one of these keys."""
        found = self.lost.intersection(keys)
        self.walks += 1
        self.walks_caused += bool(found)
        self.lost -= found

    def __add__(self, other: "Counters") -> "Counters":
        """Return the sum of two units' counters."""
        kinds = dict.fromkeys((*self.commands, *other.commands))
        return Counters(
            {kind: self.commands.get(kind, 0) + other.commands.get(kind, 0) for kind in kinds},
            self.flushes + other.flushes,
            self.register_reads + other.register_reads,
            self.register_writes + other.register_writes,
            self.buffer_flushes + other.buffer_flushes,
            self.walks + other.walks,
            self.walks_caused + other.walks_caused,
            self.dropped + other.dropped,
            self.over_flushed + other.over_flushed,
        )
