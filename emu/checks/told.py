"""Findings about a call: its changes of the tables, and its result."""

import attrs

from emu.checks.kinds import Facts, FindingKind
from emu.engine import Trace
from emu.hypervisor.records import HookFailure
from emu.iommus.formats import Mapping
from emu.units import Dfn


@attrs.frozen
class OfCall:
    """A finding about a call: its CPU, its name, and its range.

    Attributes:
        step: the step at which it returned.
        dfn, page_count: its range.
    """

    agent: str
    call: str
    step: int
    domain: int
    dfn: Dfn
    page_count: int


@attrs.frozen
class OfPage(OfCall):
    """A finding about one page, the first page for which it holds."""

    page: Dfn

    def facts(self, trace: Trace) -> Facts:
        return (self.call, self.domain, self.page, None, None, self.agent)


@attrs.frozen
class LostError(OfCall):
    """A call that returned success, or nothing, although a hook that it needed had failed.

    Attributes:
        has_result: the call returns a result; else it should have logged the failure.
    """

    failure: HookFailure
    has_result: bool = True

    kind = FindingKind.LOST_ERROR

    def facts(self, trace: Trace) -> Facts:
        return (f"{self.call}: {self.failure.hook}", self.domain, self.failure.dfn, None, None, self.agent)


@attrs.frozen
class NotRolledBack(OfPage):
    """A map that returned an error and left some of its pages mapped."""

    result: int

    kind = FindingKind.NOT_ROLLED_BACK


@attrs.frozen
class WrongResult(OfPage):
    """A call that returned success, without a failed hook, although the table is not as the result says.

    Attributes:
        left: what the call left the page mapped to; None if it has neither read nor stored the entry.
        asked: what it was to map the page to.
    """

    left: Mapping | None
    asked: Mapping

    kind = FindingKind.WRONG_RESULT


@attrs.frozen
class Gap(OfPage):
    """A page that was mapped before and after a change, and not in between: a device may have been refused meanwhile.

    Attributes:
        call: the call that ended the gap.
        cleared: the step from which the page was not mapped.
    """

    cleared: int

    kind = FindingKind.GAP


@attrs.frozen
class BeyondRange:
    """A store that changed the mapping of a page outside its call's range.

    Attributes:
        call: None where no call was open on the CPU; `dfn` is then the page.
        step: the step of the store.
        page, page_domain: the changed page; its domain may be another than the call's.
    """

    agent: str
    call: str | None
    step: int
    domain: int
    dfn: Dfn
    page_count: int
    page: Dfn
    page_domain: int

    kind = FindingKind.BEYOND_RANGE

    def facts(self, trace: Trace) -> Facts:
        return (self.call or "no call", self.page_domain, self.page, None, None, self.agent)
