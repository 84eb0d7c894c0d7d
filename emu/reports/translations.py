"""What a machine translates at one moment: the entries on the way to a page, and what the units have cached.

Everything is read as the checks read it, without a step.
"""

from collections.abc import Iterable, Iterator

from emu.errors import ScenarioError, did_you_mean
from emu.hypervisor.domain import Domain
from emu.iommus.formats import Entry, Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Path
from emu.iommus.requests import TableRead
from emu.iommus.unit import Unit
from emu.machine.machine import Machine
from emu.reports.counts import count
from emu.units import Dfn


def domain_of(machine: Machine, number: int) -> Domain:
    """Return a domain by its number.

    Raises:
        ScenarioError: if there is none.
    """
    if number not in machine.domains:
        raise ScenarioError(f"there is no domain {number}: name one of {', '.join(map(str, sorted(machine.domains)))}")
    return machine.domains[number]


def unit_of(machine: Machine, name: str) -> Unit:
    """Return a unit by its name.

    Raises:
        ScenarioError: if there is none.
    """
    units = {unit.name: unit for unit in machine.units}
    if name not in units:
        raise ScenarioError(f"no unit is named {name!r}{did_you_mean(name, units)}: name one of {', '.join(units)}")
    return units[name]


def table_lines(machine: Machine, domain: Domain, dfn: Dfn) -> Iterator[str]:
    """Yield the entries on the way to a page, from the highest table down, and what each unit may still use."""
    yield from entry_lines(machine, domain, dfn)
    for unit in machine.units:
        tables = [one for root in domain.roots for one in unit.tables_at(root)]
        if not tables:
            yield f"{unit.name} has never translated by these tables"
        paths = (path for one in tables for path in unit.ledger.paths(one, dfn))
        yield from dict.fromkeys(f"{unit.name} may use {path_text(path, dfn)}" for path in paths)


def entry_lines(machine: Machine, domain: Domain, dfn: Dfn) -> Iterator[str]:
    """Yield the entries that lead to a page, as the CPUs have stored them.

    Raises:
        ScenarioError: if the tables do not reach so far.
    """
    format_, memory, table, level = domain.format, machine.memory, domain.pgd, domain.levels
    if not 0 <= dfn < format_.reach(level):
        raise ScenarioError(f"{level} levels of tables reach up to dfn {format_.reach(level) - 1:#x}, not {dfn:#x}")
    while level:
        address = format_.entry_address(table, dfn, level)
        word, seen = memory.peek(address), memory.seen(address)
        entry = format_.read(word, level, dfn)
        yield f"level {level}, word {address:#x}: {word:#x}, {entry_text(entry, dfn)}"
        if seen != word:
            yield f"  walkers may still read {seen:#x}, {entry_text(format_.read(seen, level, dfn), dfn)}"
        if entry is None:
            return
        table, level = entry.address, entry.next_level


def entry_text(entry: Entry | None, dfn: Dfn) -> str:
    """Say where an entry leads."""
    if entry is None:
        return "not present"
    if not entry.is_leaf:
        return f"table {entry.address:#x}"
    return translation_text(Translation(0, entry.order, entry.read, entry.write, entry.address), dfn)


def translation_text(translation: Translation, dfn: Dfn) -> str:
    """Name the frame and the permissions of a translation."""
    frame = translation.frame(dfn)
    if frame is None:
        return "no translation"
    allowed = [verb for verb, is_allowed in (("read", translation.read), ("write", translation.write)) if is_allowed]
    size = f", of a leaf of order {translation.order}" if translation.order else ""
    return f"mfn {frame:#x} to {' and '.join(allowed) or 'do nothing'}{size}"


def path_text(path: Path, dfn: Dfn) -> str:
    """Name the translation of a legal path, and the first store that has replaced one of its words."""
    if not path.entries:
        return f"mfn {dfn:#x}, untranslated"
    text = translation_text(path.translation, dfn)
    replaced = [entry for entry in path.entries if entry.overwritten is not None]
    if not replaced:
        return text
    first = min(replaced, key=lambda entry: (entry.overwritten, -entry.level))
    return f"{text}; its entry of level {first.level} was replaced at step {first.overwritten}"


def iotlb_lines(machine: Machine, unit: Unit) -> Iterator[str]:
    """Yield what a unit has cached: translations, and the entries that lead to tables."""
    room = "" if unit.iotlb.capacity is None else f", and has room for {unit.iotlb.capacity}"
    yield f"{unit.name} caches {count(len(unit.iotlb), 'translation')}{room}"
    entries: Iterable[IotlbEntry] = unit.iotlb.entries.values()
    for entry in entries:
        first = entry.key[2]
        pages = f"dfn {first:#x}" + (f" of order {entry.order}" if entry.order else "")
        found = translation_text(entry.translation, first)
        yield f"{pages}, {user_text(machine, unit, entry.user, entry.tag)}: {found}{replaced(unit, entry.reads)}"
    if unit.walk_cache is None:
        return
    for cached in unit.walk_cache.entries.values():
        for one in cached:
            user = user_text(machine, unit, one.user, one.tables.tag)
            where = f"table {one.tables.root:#x} of level {one.tables.levels}"
            yield f"dfn {one.first:#x} of order {one.order}, {user}: {where}{replaced(unit, one.reads)}"


def user_text(machine: Machine, unit: Unit, user: int, tag: int) -> str:
    """Name for whom an entry is cached."""
    return f"tag {tag}" if unit.iotlb.is_by_tag else f"device {machine.watch.names.get(user, f'{user:#x}')} tag {tag}"


def replaced(unit: Unit, reads: Iterable[TableRead]) -> str:
    """Say when a word that a cached entry was read from was replaced first; empty if none was."""
    newer = [one.stored for read in reads for one in unit.ledger.newer(read.address, read.level, read.step)]
    return f"; replaced at step {min(newer)}" if newer else ""
