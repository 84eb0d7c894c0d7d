"""*told*: the result of a call says what has happened.

A call that fails reports a failure, even if it has crashed the domain. A map that fails leaves none of its pages
mapped. A call that succeeds leaves the entries that it was asked for. All of this is judged by the leaves that the call
itself stored or read, and not by what other calls store afterwards.
"""

from emu.checks.findings import Finding, LostError, NotRolledBack, WrongResult
from emu.hypervisor.ops import OK, MapFlags
from emu.hypervisor.records import CallRecord, Update
from emu.units import Dfn, address_frame, offset


def untold(record: CallRecord, step: int) -> Finding | None:
    """Return the finding if the result of a call hides something; else None."""
    call = (record.cpu.name, record.call, step, record.domain.number, record.dfn, record.page_count)
    if record.result == OK and record.failures:
        return LostError(*call, record.failures[0])
    if record.call not in {"map", "unmap"}:
        return None
    if record.result == OK:
        pages = (offset(record.dfn, i) for i in range(record.page_count))
        wrong = next((dfn for dfn in pages if not is_done(record, dfn)), None)
        return None if wrong is None else WrongResult(*call, wrong)
    left = next((one.dfn for one in record.updates.values() if has_entered(record, one)), None)
    return None if record.call == "unmap" or left is None else NotRolledBack(*call, left, record.result)


def is_done(record: CallRecord, dfn: Dfn) -> bool:
    """Whether a call stored or found the entry that it was asked for at a dfn."""
    update = record.updates.get(dfn)
    if update is None or dfn in record.refused:
        return dfn in record.refused
    entry = record.domain.format.decode(update.new, 1)
    if record.mapped is None:
        return entry is None
    frame, flags = record.mapped
    wanted = (frame + dfn - record.dfn, MapFlags.READABLE in flags, MapFlags.WRITABLE in flags)
    if not flags:
        return entry is None
    return entry is not None and (address_frame(entry.address), entry.read, entry.write) == wanted


def has_entered(record: CallRecord, update: Update) -> bool:
    """Whether a call has made an entry and not taken it back."""
    return update.old != update.new and record.domain.format.decode(update.new, 1) is not None
