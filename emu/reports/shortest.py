"""What is told of the schedule that shows a finding: its preemptions, and the orders of steps that it needs."""

from collections.abc import Iterator

import attrs

from emu.reports.counts import count
from emu.reports.fact import Fact
from emu.reports.needs import needs
from emu.running.shrink import Shrunk


@attrs.frozen
class Shortest:
    """The schedule that shows a finding.

    Attributes:
        preemptions: how many preemptions it has up to the finding.
        found_with: how many the schedule had that was found, if this one is its shortest form.
        is_minimal: no interleaving shows the finding with fewer; None where that was not asked.
        cut_by: the limit that ended the search for a shorter one; empty if none did.
        needs: the orders without which the finding does not show, each such as "one step before another".
    """

    preemptions: int
    found_with: int | None = None
    is_minimal: bool | None = None
    cut_by: str = ""
    needs: tuple[str, ...] = ()

    @classmethod
    def of(cls, shrunk: Shrunk) -> "Shortest":
        """Return what shrinking has found."""
        orders = tuple(needs(shrunk.shown.trace, shrunk.needs))
        is_minimal = None if shrunk.found_with is None else shrunk.is_minimal
        return cls(shrunk.preemptions, shrunk.found_with, is_minimal, shrunk.cut_by, orders)

    def facts(self) -> Iterator[Fact]:
        """Yield the facts, in the order in which they are shown."""
        yield Fact("schedule", self.said(), (), attrs.asdict(self, filter=attrs.filters.exclude("needs")))
        if self.needs:
            yield Fact("it needs", "\n".join(self.needs), (), {"needs": list(self.needs)})

    def said(self) -> str:
        """Say how many preemptions there are."""
        down = "" if self.found_with in {None, self.preemptions} else f", down from {self.found_with}"
        if self.is_minimal is None:
            return count(self.preemptions, "preemption") + down
        found = "minimal: proved" if self.is_minimal else "smallest found"
        cut = f"; the search was ended by {self.cut_by}" if self.cut_by and not self.is_minimal else ""
        return f"{count(self.preemptions, 'preemption')}{down} ({found}{cut})"
