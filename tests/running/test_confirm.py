"""Confirming: an execution that showed a cause is repeated on both hosts, with a witness where that is possible."""

import pytest

from emu.checks.details import Evidence
from emu.checks.findings import FindingKind, Owed, Stale
from emu.checks.signatures import Signature
from emu.errors import InternalError
from emu.running.causes import Cause
from emu.running.confirm import Confirmation
from emu.running.run import Run
from emu.units import Dfn
from tests.running.explored import bundled_with, explored

A_STALE_ONE = Signature(FindingKind.STALE, "mapped", 1, Dfn(0x10), None, "vtd0", "cpu0")


def test_a_cause_is_confirmed_on_trio_tasks_with_a_schedule_that_repeats_it() -> None:
    (cause,) = explored(bundled_with("remap_before_flush")).causes.values()
    assert (cause.executions, cause.first) == (2, 2)
    assert isinstance(cause.finding, Stale)
    assert cause.finding.evidence is Evidence.OBSERVED
    assert cause.saved is not None
    assert cause.saved.witness is not None


def test_a_use_by_a_device_of_the_scenario_needs_no_witness() -> None:
    (cause,) = explored(bundled_with("remap_before_flush", "dma=1")).causes.values()
    assert cause.is_observed
    assert isinstance(cause.finding, Stale)
    assert cause.finding.use is not None
    assert cause.saved is not None
    assert cause.saved.witness is None


def test_a_translation_that_no_witness_can_use_stays_possible() -> None:
    (cause,) = explored(bundled_with("flag_left_set")).causes.values()
    assert isinstance(cause.finding, Owed)
    assert cause.finding.evidence is Evidence.POSSIBLE
    assert cause.saved is not None
    assert cause.saved.witness is None


def test_where_all_evidence_is_possible_the_first_execution_is_shown() -> None:
    done = explored(bundled_with("remap_before_flush", "caching_mode=true"))
    fault = next(cause for one, cause in done.causes.items() if one.kind is FindingKind.STALE_FAULT)
    assert isinstance(fault.finding, Stale)
    assert fault.finding.evidence is Evidence.POSSIBLE
    assert len(fault.candidates) == fault.executions > 1
    assert fault.saved is not None
    assert fault.saved.seed == fault.first


def test_the_hosts_are_compared_event_by_event(monkeypatch: pytest.MonkeyPatch) -> None:
    repeat = Confirmation.repeat

    def without_the_last_event(self: Confirmation, cause: Cause, number: int, host: str) -> Run:
        run = repeat(self, cause, number, host)
        if host == "trio" and run.reported is not None:
            run.reported.machine.trace._records.pop()
        return run

    monkeypatch.setattr(Confirmation, "repeat", without_the_last_event)
    with pytest.raises(InternalError, match="differs between Trio tasks and a plain loop"):
        explored(bundled_with("remap_before_flush"))


def test_the_finding_of_a_cause_is_the_first_with_its_signature() -> None:
    (cause,) = explored(bundled_with("remap_before_flush")).causes.values()
    assert cause.run is not None
    assert cause.run.finding_with(cause.signature) is cause.finding
    assert cause.run.finding_with(A_STALE_ONE) is None
