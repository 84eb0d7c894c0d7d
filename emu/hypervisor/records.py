"""Records of calls of a wrapper. Code outside of the revisions writes the records, and the checks read them."""

from collections.abc import Iterable
from typing import NamedTuple

import attrs

from emu.cpus import Cpu, PerCpu
from emu.engine import Variable
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ERESTART, OK, MapFlags
from emu.hypervisor.page_list import PageType
from emu.iommus.formats import Translation
from emu.units import Dfn, Mfn, offset

BOOT_CALLS = ("hwdom_init", "arch_hwdom_init", "populate", "reserve_unity_map")
"""The calls that fill a domain's tables. Each says beforehand which pages it is to map."""

P2M_CALLS = ("guest_physmap_add_entry", "guest_physmap_remove_page")
"""The calls that change a p2m by which the units translate, too. None of them reads iommu_dont_flush_iotlb."""

REMOVALS = ("unmap", "guest_physmap_remove_page")

CHANGES = ("map", "unmap", *P2M_CALLS, *BOOT_CALLS)
"""The calls that change mappings."""


class Update(NamedTuple):
    """The change of a page by a call: by stores of entries, or none if the call only read the leaf under the lock.

    Attributes:
        old: the page's translation before the call's first store or read.
        new: its translation after the call's last store or read.
        step: the step of the last store or read.
        is_stored: there was a store.
        gap: the first step after which a mapped page was not mapped any more; 0 if there is none.
        strayed: the last step after which the page was mapped differently than before the call; 0 if there is none.
    """

    dfn: Dfn
    old: Translation
    new: Translation
    step: int
    is_stored: bool = False
    gap: int = 0
    strayed: int = 0

    def read(self, found: Translation, step: int) -> "Update":
        """Return the update after one more read."""
        return self._replace(new=found, step=step)

    def stored(self, new: Translation, step: int) -> "Update":
        """Return the update after one more store."""
        gap = self.gap or (step if self.new.is_present and not new.is_present else 0)
        strays = new.is_present and new.maps(self.dfn) != self.old.maps(self.dfn)
        return Update(self.dfn, self.old, new, step, True, gap, step if strays else self.strayed)

    @property
    def is_changed(self) -> bool:
        """Whether the page's mapping has changed."""
        return self.old.maps(self.dfn) != self.new.maps(self.dfn)

    @property
    def has_gap(self) -> bool:
        """Whether the page was mapped before, is mapped now, and was not mapped at some time between."""
        return bool(self.gap) and self.old.is_present and self.new.is_present


@attrs.frozen
class HookFailure:
    """A failed call of a hook for `page_count` pages from `dfn`; 0 pages stand for the whole domain."""

    hook: str
    dfn: Dfn
    page_count: int
    result: int
    step: int

    def is_covered_by(self, hook: str, dfn: Dfn, page_count: int) -> bool:
        """Whether a later success of a hook, for a number of pages or 0 for all, covers the pages of this failure."""
        if self.hook not in {hook, hook.removesuffix("_all")}:
            return False
        return not page_count or (
            self.page_count > 0 and dfn <= self.dfn <= self.dfn + self.page_count <= dfn + page_count
        )


@attrs.define(eq=False)
class CallRecord:
    """One call of map, unmap, flush or flush_all.

    Attributes:
        page_count: how many pages are in the call's range; 0 stands for the whole domain.
        called: the step at which a flush was called; not set for a map or an unmap.
        known: the dfns in the range of a flush at which a frame had ever been mapped when the flush was called.
        outer: the call on the same CPU that this one has interrupted.
        updates: the last update of each dfn in the call's range, in the order of the first updates.
        beyond: the updates of other pages, by number of the domain and dfn.
        failures: the failures of hooks, without those that a later success for the same pages covers.
        mapped: the first frame and the permissions of a map.
        wanted: the frame and the permissions of each page that a call in `BOOT_CALLS` is to map.
        logged: the failures that had happened when the call logged something.
        types: the type of each page that a call in `BOOT_CALLS` is to map, when it was called.
        has_result: the call returns a result; else it can only log.
        returned: the step of the return; 0 before that.
        result: the result that the caller got; meaningful once the call has returned.
        refused: dfns at which nothing has to be done: the domain is dying, or has no tables that the hooks may change.
        flag_is_left_set: iommu_dont_flush_iotlb was still set when the hypercall ended.
        is_continued: the hypercall ended with a continuation.
        is_deferred: a map or an unmap returned while iommu_dont_flush_iotlb was set on its CPU.
    """

    call: str
    cpu: Cpu
    domain: Domain
    dfn: Dfn
    page_count: int
    called: int = 0
    known: tuple[Dfn, ...] = ()
    mapped: tuple[Mfn, MapFlags] | None = None
    wanted: dict[Dfn, tuple[Mfn, MapFlags]] = attrs.field(factory=dict)
    logged: list[HookFailure] = attrs.field(factory=list)
    types: "dict[Dfn, tuple[Variable[PageType], PageType]]" = attrs.field(factory=dict)
    has_result: bool = True
    outer: "CallRecord | None" = attrs.field(default=None, repr=False)
    updates: dict[Dfn, Update] = attrs.field(factory=dict)
    beyond: dict[tuple[int, Dfn], Update] = attrs.field(factory=dict)
    failures: list[HookFailure] = attrs.field(factory=list)
    returned: int = 0
    result: int = 0
    refused: set[Dfn] = attrs.field(factory=set)
    is_deferred: bool = False
    flag_is_left_set: bool = False
    is_continued: bool = False

    def covers(self, dfn: Dfn) -> bool:
        """Whether a page is in the call's range."""
        if self.call in BOOT_CALLS:
            return dfn in self.wanted
        return not self.page_count or self.dfn <= dfn < self.dfn + self.page_count

    def pages(self) -> Iterable[Dfn]:
        """Return the pages that the call is to change."""
        return self.wanted if self.call in BOOT_CALLS else (offset(self.dfn, i) for i in range(self.page_count))

    def has_failed_at(self, dfn: Dfn) -> bool:
        """Whether a hook that changes an entry has failed at a page."""
        changing = (one for one in self.failures if one.hook in {"map_page", "unmap_page"})
        return any(one.dfn <= dfn < one.dfn + one.page_count for one in changing)

    def absorb(self, inner: "CallRecord") -> None:
        """Take over what a map or an unmap of the same domain did that this call has made."""
        if inner.call in BOOT_CALLS:
            return
        self.updates |= {dfn: update for dfn, update in inner.updates.items() if self.covers(dfn)}
        self.failures += inner.failures

    def go_on(self, before: "CallRecord") -> None:
        """Go on with the work of a call that was interrupted, and answer for both."""
        self.wanted = {**before.wanted, **self.wanted}
        self.updates |= before.updates
        self.types = {**before.types, **self.types}
        self.refused |= before.refused
        self.dfn = min(self.wanted, default=self.dfn)
        self.page_count = max(self.wanted, default=self.dfn - 1) - self.dfn + 1

    def note_changed_types(self) -> None:
        """Note that nothing has to be done at a page whose type was changed during the call."""
        self.refused |= {dfn for dfn, (variable, type_) in self.types.items() if variable.value is not type_}

    @property
    def has_told(self) -> bool:
        """Whether the caller knows of the call's failures: by its result, or where it has none, from the console."""
        if self.has_result:
            return self.result != OK or not self.failures
        return all(one in self.logged for one in self.failures)

    @property
    def is_interrupted(self) -> bool:
        """Whether a populate has stopped before its work was done, and will be made again."""
        return self.call == "populate" and self.result == ERESTART

    def may_change(self, domain: Domain, dfn: Dfn) -> bool:
        """Whether the call may change the mapping of a page of a domain."""
        return self.call in CHANGES and self.domain is domain and self.covers(dfn)


open_call: PerCpu[CallRecord | None] = PerCpu("open_call", initial=None)
"""The record of the call that is running on a CPU. It belongs to the emulator, so its use takes no steps."""


def record_result(cpu: Cpu, hook: str, dfn: Dfn, page_count: int, result: int) -> None:
    """Note the result of a hook for a number of pages, 0 for all. A success removes the failures that it covers."""
    record = cpu.peek(open_call)
    if record is not None and result != OK:
        record.failures.append(HookFailure(hook, dfn, page_count, result, cpu.trace.step))
    elif record is not None:
        record.failures = [one for one in record.failures if not one.is_covered_by(hook, dfn, page_count)]


def record_refusal(cpu: Cpu, dfn: Dfn, page_count: int = 1) -> None:
    """Note that a call need not do anything at a number of pages."""
    record = cpu.peek(open_call)
    if record is not None:
        record.refused |= {Dfn(dfn + i) for i in range(page_count)}
