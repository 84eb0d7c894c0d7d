"""Charging a store of an entry: each page that it changes is noted in the record of the call open on the CPU.

A page in the call's range gets an update if the new entry is a leaf or clear, which decides the page's translation, or
if another leaf translates the page now. A page outside the range gets an update if its mapping has changed: no caller
asked for that. Where no call is open, the checks judge such a change at once. A store into a frame that is no table of
the domain is not judged here: it is a finding of its own.
"""

from collections.abc import Iterable

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.mappings import known_below, translation_below
from emu.hypervisor.places import Place
from emu.hypervisor.records import CHANGES, CallRecord, Update, open_call
from emu.memory import TABLE_FRAMES
from emu.units import Dfn, Maddr, address_frame


def charge(cpu: Cpu, domain: Domain, place: Place, old: int, new: int, step: int, *, is_table: bool) -> None:
    """Note that a step replaced the word at a place.

    Args:
        is_table: the frame of the word is a table of the domain.
    """
    record = cpu.peek(open_call)
    entry = domain.format.decode(new, place.level)
    if place.level > 1 and entry == domain.format.decode(old, place.level) and not (entry and entry.is_leaf):
        return
    says_all = entry is None or entry.is_leaf
    for dfn in sorted({*pages_mapped(domain, place), *(pages_of(record, domain, place) if says_all else ())}):
        before = translation_below(cpu.memory, domain, dfn, place, old)
        after = translation_below(cpu.memory, domain, dfn, place, new)
        if record is not None and record.may_change(domain, dfn):
            if says_all or before != after:
                update = record.updates.get(dfn, Update(dfn, before, before, 0))
                record.updates[dfn] = update.stored(after, step)
        elif is_table and before.maps(dfn) != after.maps(dfn):
            if record is None:
                domain.frames.page_changed(cpu, domain, dfn, step)
                return
            update = record.beyond.get((domain.number, dfn), Update(dfn, before, before, 0))
            record.beyond[domain.number, dfn] = update.stored(after, step)


def charge_read(cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
    """Note that the current step read a leaf or clear word of a dfn under the lock: an update of each of its pages.

    A word that lies in no frame of a table says nothing of a page: a hook that takes a superpage for a table reads such
    words.
    """
    record, step = cpu.peek(open_call), cpu.trace.step
    entry = domain.format.decode(word, level)
    is_of_page = (entry is None or entry.is_leaf) and address_frame(address) in TABLE_FRAMES
    if record is None or not is_of_page:
        return
    place = Place((), level, domain.format.base(dfn, level))
    found = translation_below(cpu.memory, domain, dfn, place, word)
    for page in pages_of(record, domain, place):
        record.updates[page] = record.updates.get(page, Update(page, found, found, 0)).read(found, step)


def pages_mapped(domain: Domain, place: Place) -> Iterable[Dfn]:
    """Return the pages of an entry that were ever mapped; for an entry of level 1 its page."""
    return (place.first,) if place.level == 1 else known_below(domain, place)


def pages_of(record: CallRecord | None, domain: Domain, place: Place) -> Iterable[Dfn]:
    """Return the pages of an entry that are in the range of a map or an unmap."""
    if record is None or record.call not in CHANGES or record.domain is not domain:
        return ()
    first = max(place.first, record.dfn)
    end = min(place.first + domain.format.span(place.level), record.dfn + record.page_count)
    return (Dfn(dfn) for dfn in range(first, end) if record.covers(Dfn(dfn)))
