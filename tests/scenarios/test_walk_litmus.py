"""The litmus tests of walks: what is allowed a device sees, and what is forbidden could have been seen."""

from collections.abc import Sequence

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.engine import Agent, Choose
from emu.engine.hosts import direct
from emu.scenarios.library import find
from tests.running.explored import bundled_with, explored

NAME = "walk_litmus"
READER = "00:1f.0"

CELLS = [cell for cell in find(NAME).cells if "test=" in cell]
ALLOWED = [cell for cell in CELLS if bundled_with(NAME, cell).expectation.kind is FindingKind.ASSERTION]
MESSAGES = [cell for cell in CELLS if "test=MP." in cell]

OF_LEDGER = "no unit may translate the page to the old frame"
SENT = 5
"""What is read of the message once it was sent."""


def claims_broken(cell: str) -> set[str]:
    """Return the claims that some execution breaks."""
    return {signature.check for signature in explored(bundled_with(NAME, cell)).causes}


@pytest.mark.parametrize("cell", ALLOWED)
def test_what_a_test_allows_some_device_sees_and_not_the_ledger_alone(cell: str) -> None:
    assert len(claims_broken(cell) - {OF_LEDGER}) == 1


@pytest.mark.parametrize("cell", ["CoWinvT1+tlbi-dsb", "MP.BBM1+tlbiis-dsb-dsb+dsb-isb"])
def test_a_tlbi_without_a_dsb_before_it_leaves_the_old_entry_to_the_ledger_where_walks_do_not_snoop(cell: str) -> None:
    assert OF_LEDGER in claims_broken(f"test={cell} coherent=false")
    assert OF_LEDGER not in claims_broken(f"test={cell} coherent=true")


@attrs.frozen
class LastOfAll:
    """Let one agent take steps only when no other can."""

    name: str

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return min(enabled, key=lambda agent: agent.name == self.name)

    def choose(self, choice: Choose) -> int:
        return 0


@pytest.mark.parametrize("cell", MESSAGES)
@pytest.mark.parametrize(("last", "told"), [(READER, True), ("cpu0", False)])
def test_the_reader_receives_a_message_that_was_sent_before_it_looks(cell: str, last: str, told: bool) -> None:
    machine = bundled_with(NAME, cell).build()
    direct.run(machine.execution(LastOfAll(last)))
    read = [event for event in machine.trace.events() if event.name == "dma.read" and event.agent.name == READER]
    assert any(event.fields["value"] == SENT for event in read) is told


def test_no_finding_is_about_anything_but_the_claims() -> None:
    found = {signature.kind for cell in ALLOWED for signature in explored(bundled_with(NAME, cell)).causes}
    assert found == {FindingKind.ASSERTION}
