"""The flushes of an execution: the agent that submitted each, and why a flush did not remove an entry."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import Enum

import attrs

from emu.analysis.source_lines import line_of_call
from emu.analysis.windows import covers, drops_tables
from emu.checks.findings import OldPath
from emu.engine import Event, Trace


@attrs.frozen
class Flush:
    """An invalidation that has completed.

    Attributes:
        source: the line of the wrapper from which it was submitted.
        posted: the event that submitted it; the completion itself where the unit has no queue.
        done: the event that completed it, whose keys say what it covered.
    """

    source: str | None
    posted: Event = attrs.field(repr=False)
    done: Event = attrs.field(repr=False)

    @property
    def agent(self) -> str:
        """The agent that submitted it."""
        return self.posted.agent.name

    @property
    def submitted(self) -> int:
        """The step at which it was submitted."""
        return self.posted.step

    @property
    def began(self) -> int:
        """The step at which it began: it removes the entries whose replacement every walker saw by then."""
        began: int = self.done.fields["began"]
        return began

    @property
    def completed(self) -> int:
        """The step at which it completed."""
        return self.done.step


class Shortfall(Enum):
    """Why a flush did not remove an entry."""

    EARLY = "early"  # it began before the entry was replaced
    UNSEEN = "unseen"  # it began when walkers could still read the old entry
    LEAVES = "leaves"  # it let cached table entries stay
    PAGE = "page"  # it covered other pages
    TAG = "tag"  # it covered another tag
    UNIT = "unit"  # it was at another unit


OF_TIME = frozenset({Shortfall.EARLY, Shortfall.UNSEEN})
"""The shortfalls of time; the others are of what the flush covered."""


@attrs.frozen
class Miss:
    """A flush that did not remove an entry, and the reasons, perhaps several."""

    flush: Flush
    shortfalls: tuple[Shortfall, ...]

    @property
    def distance(self) -> tuple[int, int]:
        """A key that sorts the nearest flush first: the number of shortfalls, and the worst of them."""
        return len(self.shortfalls), max(list(Shortfall).index(one) for one in self.shortfalls)


def flushes(events: Iterable[Event], trace: Trace) -> Iterator[Flush]:
    """Yield the invalidations that have completed, in order of completion."""
    posts = posts_by_unit(events)
    for event in events:
        if event.name == "invalidate.complete":
            posted = submission(event, posts.get(event.fields["iommu"], []))
            yield Flush(line_of_call(trace, posted.step), posted, event)


def posts_by_unit(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Return the events that submitted flushes, by unit."""
    posts: dict[str, list[Event]] = {}
    for event in events:
        if event.name == "queue.post":
            posts.setdefault(event.fields["iommu"], []).append(event)
    return posts


def submission(completion: Event, posts: list[Event]) -> Event:
    """Return the event that submitted an invalidation to a unit's queue; its completion where there is none."""
    after = bisect_right(posts, completion.fields.get("slot", -1), key=lambda post: int(post.fields["slot"]))
    return posts[after - 1] if after else completion


def shortfalls(flush: Flush, finding: OldPath, seen: float) -> tuple[Shortfall, ...]:
    """Return why a flush did not remove the entry of a finding; nothing if it did.

    Args:
        seen: the step from which each walker must read the store that replaced the entry; infinite if never.
    """
    keys, found = flush.done.fields, []
    if flush.began < seen:
        is_early = flush.began < (finding.change or 0)
        found.append(Shortfall.EARLY if is_early else Shortfall.UNSEEN)
    if finding.replaces_table and not drops_tables(flush.done):
        found.append(Shortfall.LEAVES)
    if not covers(flush.done, keys["iommu"], keys["tag"], finding.dfn, finding.dfn):
        found.append(Shortfall.PAGE)
    if keys["iommu"] != finding.unit:
        found.append(Shortfall.UNIT)
    elif keys["tag"] not in {"all", finding.tag}:
        found.append(Shortfall.TAG)
    return tuple(found)
