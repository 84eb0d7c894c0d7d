"""How often the checks were asked in an execution: without findings, this says what was judged at all."""

from typing import Any

import attrs

from emu.checks.promises import is_made, questions
from emu.devices.device import Commit
from emu.engine import Operation, Trace
from emu.hypervisor.assignment import HandOver
from emu.hypervisor.calls import Return, Settle
from emu.hypervisor.pages import AllocatePage, PutPage
from emu.hypervisor.records import CallRecord


@attrs.define
class Judged:
    """How often each check was asked.

    Attributes:
        returns: calls that promised something about a page when they returned.
        deferred: deferred calls that owed something about a page when their hypercall ended.
        accesses: reads and writes by devices.
        releases: frames that were freed, or given to an owner.
        assignments: changes of a device's domain.
        accesses_after: accesses by devices whose domain had changed before.
    """

    returns: int = 0
    deferred: int = 0
    accesses: int = 0
    releases: int = 0
    assignments: int = 0
    accesses_after: int = 0

    def add(self, trace: Trace) -> None:
        """Count the questions of an execution."""
        moved: set[str] = set()
        for _, operation in trace.performed():
            self.add_step(operation, moved)

    def add_step(self, operation: Operation[Any], moved: set[str]) -> None:
        """Count the questions of one step.

        Args:
            moved: the devices whose domain has changed.
        """
        match operation:
            case Return(record=record):
                self.returns += not record.is_deferred and has_promised(record)
            case Settle(debts=debts):
                self.deferred += sum(map(has_promised, debts))
            case Commit(is_made=True, device=device):
                self.accesses += 1
                self.accesses_after += device.bdf in moved
            case PutPage(left=0) | AllocatePage():
                self.releases += 1
            case HandOver(is_failed=False, device=device):
                self.assignments += 1
                moved.add(device.bdf)


def has_promised(record: CallRecord) -> bool:
    """Whether a call makes a promise about a page."""
    return is_made(record) and next(questions(record), None) is not None
