"""The agent that takes commands from the queue and executes them (chapters 4.1 and 4.7.3).

A CMD_SYNC completes after all commands ahead of it, after the walks that could still fill the TLB or the configuration
cache with what these drop, and after the requests that were let through by it. No later command begins before.

An invalidation completes at once, unless it must drain: then with the CMD_SYNC behind it. A later completion shows
nothing more, because software learns of completions by CMD_SYNCs only: at a check before its completion an invalidation
is as good as not begun, and the engine may as well fetch it later.

Not modelled: two invalidations that begin in another order than they were posted in. The later one cannot begin before
it is posted, and an earlier start of the first one drops less.
"""

from collections.abc import Iterator
from typing import Any

from emu.engine import Operation
from emu.iommus.entry_invalidation import CommandsAhead, RemoveDeviceEntry
from emu.iommus.invalidation import Begin, Complete, Range, Remove
from emu.iommus.ring import Fetch
from emu.iommus.smmu.v3.formats import (
    Command,
    InvalidateAll,
    InvalidatePage,
    InvalidateStream,
    InvalidateStreams,
    InvalidateVmid,
    Prefetch,
    Sync,
)
from emu.iommus.smmu.v3.queue import CompleteSync
from emu.iommus.smmu.v3.state import Smmuv3State
from emu.units import Dfn


async def engine(unit: Smmuv3State) -> None:
    """Execute commands for ever; stop at one that is not valid (CERROR_ILL)."""
    slot, ahead = 0, CommandsAhead(unit)
    while True:
        fetched = Fetch(unit.queue, slot)
        await fetched
        match fetched.command:
            case Sync():
                await ahead.complete()
                await CompleteSync(unit.queue, slot)
                ahead = CommandsAhead(unit)
            case InvalidateStream() | InvalidateStreams():
                await ahead.invalidate_device(slot, stream_of(fetched.command))
            case InvalidateVmid() | InvalidatePage() | InvalidateAll():
                await ahead.invalidate(covered_range(slot, fetched.command))
            case Prefetch():
                pass  # a unit need not use the hint
            case None:
                return
        slot += 1


def stream_of(command: InvalidateStream | InvalidateStreams) -> int | None:
    """Return the stream whose cached entry a command drops; None for every stream."""
    return command.stream_id if isinstance(command, InvalidateStream) else None


def covered_range(slot: int, command: InvalidateVmid | InvalidatePage | InvalidateAll) -> Range:
    """Return the range of an invalidation of translations."""
    match command:
        case InvalidateVmid(vmid):
            return Range(slot, vmid, Dfn(0), None, leaf_only=False)
        case InvalidatePage(vmid, dfn, leaf):
            return Range(slot, vmid, dfn, 0, leaf_only=leaf)
        case InvalidateAll():
            return Range(slot, None, Dfn(0), None, leaf_only=False)


def operations(unit: Smmuv3State, slot: int, command: Command | None) -> Iterator[Operation[Any]]:
    """Yield the operations that execute a command, as if it were executed now."""
    match command:
        case InvalidateVmid() | InvalidatePage() | InvalidateAll():
            covered = covered_range(slot, command)
            yield Begin(unit.memory, {})
            yield Remove(unit, covered, 0)
            yield Complete(unit, covered, 0)
        case InvalidateStream() | InvalidateStreams():
            yield Begin(unit.memory, {})
            yield RemoveDeviceEntry(unit, stream_of(command), 0)
        case Sync():
            yield CompleteSync(unit.queue, slot)
