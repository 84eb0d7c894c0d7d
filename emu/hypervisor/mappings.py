"""The mappings in a domain's page tables, as the CPUs have stored them: an entry's place, and the entries below it.

This is the CPUs' own view of memory. The ledger (iommus/ledger.py) knows the values that walkers may still read.
"""

from collections.abc import Iterator

from emu.engine import Access, Kind
from emu.hypervisor.domain import Domain
from emu.hypervisor.places import Place
from emu.iommus.formats import FAULT, Entry, Translation
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Dfn, Maddr


def place_of(memory: Memory, domain: Domain, dfn: Dfn, address: Maddr) -> Place:
    """Return the place of a word in one of the tables that a walk for a dfn reads; the word may be another dfn's.

    Tables count whose entries software alone takes for valid.
    """
    format_, table, level = domain.format, domain.pgd, domain.levels
    above: tuple[Maddr, ...] = ()
    read = write = True
    while level:
        index = (address - table) // WORD_BYTES
        if 0 <= index < 1 << format_.index_bits[level - 1]:
            first = format_.base(dfn, level + 1) + index * format_.span(level)
            return Place(above, level, Dfn(first), read, write)
        word = format_.entry_address(table, dfn, level)
        above = (*above, word)
        entry = format_.read(memory.peek(word) | domain.tracked_bit, level, dfn)
        if entry is None:
            break
        read, write = read and entry.read, write and entry.write
        table, level = entry.address, entry.next_level
    return Place(above)


def translation_below(memory: Memory, domain: Domain, dfn: Dfn, place: Place, word: int) -> Translation:
    """Return the translation of a dfn if a word stands at a place."""
    read, write = place.read, place.write
    for reached, entry in entries_below(memory, domain, dfn, place, word):
        read, write = read and entry.read, write and entry.write
        if entry.is_leaf:
            return Translation(reached, entry.order, read, write, entry.address)
    return FAULT


def entries_below(memory: Memory, domain: Domain, dfn: Dfn, place: Place, word: int) -> Iterator[tuple[int, Entry]]:
    """Yield the entries that a walk for a dfn reads from a place down, each with its word, if a word stands there."""
    level = place.level
    while (entry := domain.format.read(word, level, dfn)) is not None:
        yield word, entry
        if entry.is_leaf:
            return
        level = entry.next_level
        word = memory.peek(domain.format.entry_address(entry.address, dfn, level))


def tables_below(memory: Memory, domain: Domain, place: Place, old: int, new: int) -> Iterator[Access]:
    """Yield the reads of the tables that decide which mappings change when one word replaces another at a place.

    These are the tables through which either word leads to a dfn that was ever mapped. A table that is cut off counts
    even if nothing was ever mapped in it: another CPU's store into it would be cut off, too. A table is read as a
    whole.
    """
    before, after = domain.format.decode(old, place.level), domain.format.decode(new, place.level)
    if before == after:
        return
    dfns = known_below(domain, place)
    if before is not None and not before.is_leaf and (after is None or after.address != before.address):
        dfns += [dfn for dfn in dfns_of_tables(domain) if domain.format.base(dfn, place.level) == place.first]
    seen: set[Maddr] = set()
    for word in (old, new):
        for dfn in dfns:
            for _, entry in entries_below(memory, domain, dfn, place, word):
                if not entry.is_leaf and entry.address not in seen:
                    seen.add(entry.address)
                    first, bits = word_number(entry.address), domain.format.index_bits[entry.next_level - 1]
                    yield Access(WORDS, first, first + (1 << bits) - 1, Kind.READ)


def dfns_of_tables(domain: Domain) -> Iterator[Dfn]:
    """Yield, for each of a domain's tables, a dfn that the table translates."""
    for frame in domain.tables:
        dfn = domain.frames.dfn_of_table(frame, domain)
        if dfn is not None:
            yield dfn


def known_below(domain: Domain, place: Place) -> list[Dfn]:
    """Return the dfns of an entry that were ever mapped."""
    return list(domain.known_dfns.irange(place.first, place.first + domain.format.span(place.level) - 1))
