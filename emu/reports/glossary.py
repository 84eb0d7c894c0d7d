"""The words of emu, and what each kind of finding is about: a promise, its breach, the harm, and a race that shows it.

A test executes each scenario that is named here, and finds each moment of its race in the log, in this order.
"""

from collections.abc import Mapping
from typing import NamedTuple

import attrs

from emu.checks.kinds import FindingKind


class Moment(NamedTuple):
    """One event of a race: who, which event of the log, and what that means here."""

    agent: str
    event: str
    means: str


@attrs.frozen
class Explanation:
    """What a kind of finding is about.

    Attributes:
        promised: what somebody relies on.
        broken: what breaks it.
        harm: what comes of it.
        race: the moments that matter of an execution that shows it.
        scenario, parameters: a cell that shows it, as a user writes it.
    """

    promised: str
    broken: str
    harm: str
    race: tuple[Moment, ...] = ()
    scenario: str = ""
    parameters: str = ""


def race(*moments: tuple[str, str, str]) -> tuple[Moment, ...]:
    """Return moments, each given by agent, event and meaning."""
    return tuple(Moment(*one) for one in moments)


EXPLANATIONS: Mapping[FindingKind, Explanation] = {
    FindingKind.STALE: Explanation(
        "when a map, an unmap or a flush returns success, no old translation of its pages may be used any more",
        "the call returned before a flush that covers the old entry had completed, often another CPU's",
        "the device reads and writes the old frame, which may be somebody else's by then",
        race(
            ("cpu0", "pte.clear", "its unmap clears the entry"),
            ("cpu1", "pte.write", "its map enters a new frame: the entry was not present, so nothing is to be flushed"),
            ("cpu1", "call.return", "its map returns success, and the old translation is still cached"),
            ("vtd0", "invalidate.complete", "cpu0's flush removes it, too late"),
        ),
        "remap_before_flush",
    ),
    FindingKind.STALE_FAULT: Explanation(
        "when a map returns success, devices may use its pages",
        "the unit had cached that a page was not present, or permitted less, and was not told otherwise",
        "a device is refused an access that its driver was told is possible",
        race(
            ("cpu0", "pte.write", "its map enters a page that was not present"),
            ("vtd0", "invalidate.complete", "its flush names domain id 0, and so removes nothing of this domain"),
            ("cpu0", "call.return", "its map returns success, and the unit may still refuse the page"),
        ),
        "map_dma_unmap_dma",
        "caching_mode=true",
    ),
    FindingKind.OWED: Explanation(
        "a call that returns while iommu_dont_flush_iotlb is set puts its flush off to the end of its hypercall",
        "the hypercall ended, and nobody had flushed all that was put off: never, too late, or too little",
        "whoever made the hypercall believes that the old translations are gone, and devices use them",
        race(
            ("cpu0", "pte.write", "its map replaces an entry"),
            ("cpu0", "call.return", "its map returns; the flush is put off"),
            ("vtd0", "invalidate.complete", "the flush that makes up for it covers one page too few"),
            ("cpu0", "hypercall.settle", "the hypercall ends with the flush of the other page still owed"),
        ),
        "flush_misses_last_page",
    ),
    FindingKind.RELEASED: Explanation(
        "a frame that is freed, or gets a new owner, is out of reach of all that used it before",
        "the last reference was dropped before the flush, or while the frame was mapped; or it held a page table",
        "a device reads and writes memory of a new owner: the worst of all that a late flush can do",
        race(
            ("cpu0", "pte.clear", "its unmap clears the entry, and puts the flush off"),
            ("cpu0", "page.free", "it frees the frame, which the device may still use"),
            ("vtd0", "invalidate.complete", "the flush removes the translation, too late"),
        ),
        "free_before_flush",
        "revision=merged",
    ),
    FindingKind.LOST_ERROR: Explanation(
        "a call in which something failed returns an error, or logs it where it has no result",
        "a later success took the place of the error, or nobody looked at it",
        "the caller uses pages that are not mapped, or frees frames that still are",
        race(
            ("cpu0", "fault.inject", "a hook fails in the middle of a map"),
            ("cpu0", "pte.clear", "what was mapped is taken back"),
            ("cpu0", "call.return", "the result is that of the flush: success"),
        ),
        "map_fails_halfway",
    ),
    FindingKind.NOT_ROLLED_BACK: Explanation(
        "a map that returns an error leaves none of its pages mapped",
        "the roll-back failed, too, or was left out",
        "the caller frees frames to which devices have an entry",
        race(
            ("cpu0", "pte.write", "its map enters the first pages"),
            ("cpu0", "fault.inject", "the hook fails on the next, and that of the roll-back on one of them"),
            ("cpu0", "call.return", "it returns the error, and one page is still mapped"),
        ),
        "roll_back_fails_halfway",
        "revision=merged",
    ),
    FindingKind.WRONG_RESULT: Explanation(
        "a call that returns success, and in which nothing failed, has left the table as it was asked",
        "an entry was left out, or was given another frame or other permissions than asked",
        "the caller works with pages that are not what it was told",
        race(
            ("cpu0", "pte.write", "its map of two pages enters the first"),
            ("cpu0", "call.return", "it returns success, and has not touched the second"),
        ),
        "hook_errs_on_last_page",
    ),
    FindingKind.BEYOND_RANGE: Explanation(
        "a call changes the pages of its range, and no others",
        "a store changed the mapping of a page outside of it",
        "a page changes that nobody asked about, nor flushes",
        race(
            ("cpu0", "call.enter", "its map is for two pages"),
            ("cpu0", "pte.write", "it stores the entry of a third"),
        ),
        "hook_errs_on_last_page",
        "error=overshoot",
    ),
    FindingKind.GAP: Explanation(
        "a page that is mapped before a change and after it is mapped all the time",
        "its entry was cleared before it was set anew",
        "a device that uses the page meanwhile is refused; harmless where no device does",
        race(
            ("cpu0", "table.allocate", "its unmap of one page splits a superpage: an empty table takes its place"),
            ("cpu0", "pte.write", "the entries of all the pages are filled in one after the other"),
            ("cpu0", "call.return", "the other pages are mapped again, and were not meanwhile"),
        ),
        "unmap_page_of_superpage",
        "superpage_bits=1 refuse_gaps=true",
    ),
    FindingKind.DEADLOCK: Explanation(
        "whoever waits can go on in the end",
        "agents wait for one another, or for something that nobody does any more",
        "the machine hangs",
        race(
            ("cpu0", "lock.acquire", "it takes one lock"),
            ("cpu1", "lock.acquire", "it takes another one"),
            ("cpu1", "lock.contend", "it waits for cpu0's"),
            ("cpu0", "lock.contend", "it waits for cpu1's, for ever"),
        ),
        "grant_locks_in_either_order",
    ),
    FindingKind.LATE: Explanation(
        "when an invalidation has completed, the accesses that were translated before it are done",
        "the unit did not drain them, or the status that a CPU waits for was written too early",
        "a write lands in the old frame after the call that removed its translation",
        race(
            ("00:1f.0", "dma.post", "a write is translated, and on its way"),
            ("vtd0", "invalidate.complete", "the translation is removed; the write is not waited for"),
            ("cpu0", "call.return", "the unmap returns success"),
            ("00:1f.0 (root complex)", "dma.write", "the write lands"),
        ),
        "write_in_flight",
        "drain=false",
    ),
    FindingKind.FREED_TABLE: Explanation(
        "a CPU enters pages into tables of the domain, and into nothing else",
        "another CPU freed the table after the walk down to it, or before",
        "the store changes memory of whoever got the frame",
        race(
            ("cpu0", "page.free", "it frees the page tables of a dying domain"),
            ("cpu1", "pte.clear", "its unmap clears an entry in one of them"),
        ),
        "unmap_from_dying_domain",
    ),
    FindingKind.TORN: Explanation(
        "a device sees the old entry or the new one",
        "the entry was replaced in two stores, and a walk came between them",
        "the device reaches a frame to which neither entry leads",
        race(
            ("cpu0", "pte.write", "it stores the high half of the new entry"),
            ("00:1f.0", "iotlb.fill", "a walk finds that and the low half of the old one"),
            ("cpu0", "pte.write", "it stores the low half"),
        ),
        "entry_replaced_in_halves",
    ),
    FindingKind.NO_BREAK: Explanation(
        "an entry is cleared, and what is cached of it is flushed, before one that leads elsewhere takes its place",
        "the new entry was stored over the old one, or before the flush",
        "a walker uses either of the two, or a mixture, and may cache both",
        race(
            ("cpu0", "pte.write", "an entry is stored over that of a page which is mapped to another frame"),
            ("cpu0", "cpu_tlb.flush", "the TLBs of the CPUs are flushed, too late"),
        ),
        "p2m_entry_replaced",
        "in_place=true",
    ),
    FindingKind.OVERRUN: Explanation(
        "an array of references has room for all that is stored in it",
        "the loop that fills it ends one page too late",
        "the hypervisor overwrites what lies behind it",
        race(
            ("cpu0", "page.get", "a batch of moves takes a reference to the first page"),
            ("cpu0", "page.get", "and one to the second, for which there is no room"),
        ),
        "move_more_than_fit",
        "slots=1",
    ),
    FindingKind.FOREIGN: Explanation(
        "what a driver has programmed reaches memory of its own domain only",
        "the device went to another domain with requests in its queue",
        "the former domain has the device write to memory of the next one",
        race(
            ("00:1f.0", "dma.program", "the driver in domain 1 asks for a write"),
            ("cpu0", "device.hand_over", "the device goes to domain 0"),
            ("00:1f.0", "dma.write", "it makes the write there"),
        ),
        "device_returned_with_writes_queued",
    ),
    FindingKind.NOT_ISOLATED: Explanation(
        "devices of a domain reach its own frames, and those that their owners let it map",
        "a frame was mapped without leave, or stayed in reach after the leave was taken back; or nothing translates",
        "one domain has its devices read and write memory of another one",
        race(
            ("cpu0", "page.withdraw", "domain 2 may not map the frame any more"),
            ("cpu0", "pte.clear", "it unmaps the frame's second page only now"),
        ),
        "grant_mapped_twice",
    ),
    FindingKind.ASSERTION: Explanation(
        "what an `assert`, `m.always` or `m.finally_` states",
        "an execution in which it is not so",
        "whatever the claim is there to prevent",
        race(
            ("cpu0", "fault.inject", "a map fails halfway"),
            ("cpu0", "pte.clear", "it is taken back; the hook that is to flush then is NULL, and is called"),
        ),
        "flush_hook_is_missing",
    ),
    FindingKind.ILLEGAL: Explanation(
        "emulated hardware does only what its manual allows",
        "two parts of emu disagree about which translations a unit may use",
        "no answer of emu can be believed: please report it with the command",
    ),
}
