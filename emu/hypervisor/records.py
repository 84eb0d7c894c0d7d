"""What one call of a wrapper did: written by code that no revision changed, read by the checks."""

from typing import NamedTuple

import attrs

from emu.cpus import Cpu, PerCpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, MapFlags
from emu.units import Dfn, Mfn


class Update(NamedTuple):
    """A leaf that a call stored, or found under the lock and left alone (old equals new).

    Attributes:
        old: what stood there when the call first looked.
        step: at which the call last stored or found it.
    """

    dfn: Dfn
    old: int
    new: int
    step: int


@attrs.frozen
class HookFailure:
    """A hook that did not do what it was asked to, for so many pages; 0 for all of the domain."""

    hook: str
    dfn: Dfn
    page_count: int
    result: int
    step: int

    def is_made_good_by(self, hook: str, dfn: Dfn, page_count: int) -> bool:
        """Whether a hook that has succeeded for so many pages, 0 for all, has done what this one was asked to."""
        if self.hook not in {hook, hook.removesuffix("_all")}:
            return False
        return not page_count or (
            self.page_count > 0 and dfn <= self.dfn <= self.dfn + self.page_count <= dfn + page_count
        )


@attrs.define(eq=False)
class CallRecord:
    """One call of map, unmap, flush or flush_all.

    Attributes:
        page_count: how many pages the call was for; 0 for the whole domain.
        called: the step at which a flush was called; of a map or an unmap nothing depends on it.
        known: the pages of a flush at which a frame had ever been entered when it was called.
        outer: the call that this one has interrupted on its CPU.
        updates: the last update of each dfn, in the order of the first ones.
        failures: of hooks that did not succeed later for the same pages.
        mapped: the first frame and the permissions of a map.
        returned: the step of the return; 0 before that.
        result: what the caller was told; meaningful once the call has returned.
        refused: pages at which nothing was done, for the domain is dying.
        flag_is_left_set: the flag was still set when the hypercall ended.
        is_continued: the hypercall ended with a continuation.
        is_deferred: a map or an unmap returned with its CPU's iommu_dont_flush_iotlb set.
    """

    call: str
    cpu: Cpu
    domain: Domain
    dfn: Dfn
    page_count: int
    called: int = 0
    known: tuple[Dfn, ...] = ()
    mapped: tuple[Mfn, MapFlags] | None = None
    outer: "CallRecord | None" = attrs.field(default=None, repr=False)
    updates: dict[Dfn, Update] = attrs.field(factory=dict)
    failures: list[HookFailure] = attrs.field(factory=list)
    returned: int = 0
    result: int = 0
    refused: set[Dfn] = attrs.field(factory=set)
    is_deferred: bool = False
    flag_is_left_set: bool = False
    is_continued: bool = False

    def covers(self, dfn: Dfn) -> bool:
        """Whether the call was for a page."""
        return not self.page_count or self.dfn <= dfn < self.dfn + self.page_count


open_call: PerCpu[CallRecord | None] = PerCpu("open_call", initial=None)
"""The record of the wrapper that is running on a CPU; bookkeeping of the emulator, so it takes no steps."""


def record_update(cpu: Cpu, dfn: Dfn, old: int, new: int) -> None:
    """Note that the current step stored or found a leaf."""
    record = cpu.peek(open_call)
    if record is not None:
        first = record.updates.get(dfn)
        record.updates[dfn] = Update(dfn, old if first is None else first.old, new, cpu.trace.step)


def record_result(cpu: Cpu, hook: str, dfn: Dfn, page_count: int, result: int) -> None:
    """Note that a hook has failed for so many pages, 0 for all; or has done what it had failed to do before."""
    record = cpu.peek(open_call)
    if record is not None and result != OK:
        record.failures.append(HookFailure(hook, dfn, page_count, result, cpu.trace.step))
    elif record is not None:
        record.failures = [one for one in record.failures if not one.is_made_good_by(hook, dfn, page_count)]


def record_refusal(cpu: Cpu, dfn: Dfn) -> None:
    """Note that a call does nothing at a page because its domain is dying."""
    record = cpu.peek(open_call)
    if record is not None:
        record.refused.add(dfn)
