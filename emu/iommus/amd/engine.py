"""The command processor (section 2.4): it takes commands from the buffer and executes them, as one agent.

A COMPLETION_WAIT completes after all commands ahead of it, and after the requests that their invalidations drain
(section 2.4.1). Later commands may begin before it has completed, unless its bit F is set. So where the next command is
posted already, the strategy chooses whether the oldest wait completes first. Waits complete in their order.

An invalidation completes at once, unless it must drain: then with the wait behind it. A later completion shows nothing
more, because software learns of completions by waits only: at a check before its completion an invalidation is as good
as not begun, and the engine may as well fetch it later.

Not modelled: two invalidations that begin in another order than they were posted in. The later one cannot begin before
it is posted, and an earlier start of the first one drops less.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from emu.engine import Choose, Operation
from emu.iommus.amd.formats import (
    Command,
    CompletionWait,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidateDeviceTlb,
    InvalidatePages,
)
from emu.iommus.amd.state import AmdState
from emu.iommus.entry_invalidation import CommandsAhead, RemoveDeviceEntry
from emu.iommus.formats import base_of_order
from emu.iommus.invalidation import Begin, Complete, Range, Remove
from emu.iommus.ring import Fetch, Look
from emu.iommus.status import WriteStatus
from emu.units import Dfn

COM_WAIT_INT = 1 << 2
"""The bit of the status register that a wait with I sets."""


@attrs.define
class Segment(CommandsAhead[AmdState]):
    """A wait, once it is fetched, and the commands ahead of it that have not completed.

    Attributes:
        wait: the wait.
        posted: the step that posted the wait.
    """

    wait: CompletionWait | None = None
    posted: int = 0

    async def complete(self) -> None:
        """Complete the commands ahead of the wait, and then the wait itself (section 2.4.1)."""
        await super().complete()
        if self.wait is not None and (self.wait.store or self.wait.interrupt):
            for status in statuses(self.unit, self.wait, self.posted):
                await status


async def engine(unit: AmdState) -> None:
    """Execute commands for ever; stop at one that is not valid (ILLEGAL_COMMAND_ERROR, section 2.5.6)."""
    slot, segment = 0, Segment(unit)
    waits: list[Segment] = []
    while True:
        await complete_waits(unit, slot, waits)
        command = await fetch(unit, slot)
        match command:
            case CompletionWait():
                segment.wait, segment.posted = command, unit.queue.latch(slot).set_at
                waits.append(segment)
                segment = Segment(unit)
            case InvalidateDeviceEntry(device_id):
                await segment.invalidate_device(slot, device_id)
            case InvalidatePages():
                await segment.invalidate(covered_range(slot, command))
            case InvalidateAll():
                await segment.invalidate_device(slot, None)
                await segment.invalidate(Range(slot, None, Dfn(0), None, leaf_only=False))
            case InvalidateDeviceTlb():
                pass  # no device of the model has a TLB of its own
            case None:
                return
        slot += 1


async def fetch(unit: AmdState, slot: int) -> Command | None:
    """Return the next command, once it is posted; None if it is not valid."""
    fetched = Fetch(unit.queue, slot)
    await fetched
    return fetched.command


async def complete_waits(unit: AmdState, slot: int, waits: list[Segment]) -> None:
    """Complete the waits in their order; where the next command is posted and no wait has F set, perhaps not yet."""
    while waits:
        fences = unit.settings.synchronous or any(one.wait is not None and one.wait.flush for one in waits)
        if not fences and await Look(unit.queue, slot) and await Choose("wait or next command first", 2):
            return
        await waits.pop(0).complete()


def covered_range(slot: int, command: InvalidatePages) -> Range:
    """Return the range of an invalidation of pages."""
    first = Dfn(0) if command.order is None else base_of_order(command.dfn, command.order)
    return Range(slot, command.domain_id, first, command.order, not command.directory)


def statuses(unit: AmdState, wait: CompletionWait, posted: int) -> Iterator[WriteStatus]:
    """Yield the stores by which a wait tells that it has completed; `posted` is the step that posted it."""
    memory, queue = unit.memory, unit.queue
    if wait.store:
        yield WriteStatus(unit.name, memory, wait.store_address, wait.store_data, 64, posted, queue.status_watcher)
    if wait.interrupt:
        yield WriteStatus(unit.name, memory, queue.status, COM_WAIT_INT, 32, posted, queue.status_watcher)


def operations(unit: AmdState, slot: int, command: Command | None) -> Iterator[Operation[Any]]:
    """Yield the operations that execute a command, as if it were executed now."""
    match command:
        case InvalidatePages() | InvalidateAll():
            covered = Range(slot, None, Dfn(0), None, leaf_only=False)
            if isinstance(command, InvalidatePages):
                covered = covered_range(slot, command)
            else:
                yield RemoveDeviceEntry(unit, None, 0)
            yield Begin(unit.memory, {})
            yield Remove(unit, covered, 0)
            yield Complete(unit, covered, 0)
        case InvalidateDeviceEntry(device_id):
            yield Begin(unit.memory, {})
            yield RemoveDeviceEntry(unit, device_id, 0)
        case CompletionWait():
            yield from statuses(unit, command, 0)
