"""Adding a witness to a replay: a device that uses a stale translation."""

from collections.abc import Iterator

import attrs

from emu.checks.signatures import Signature
from emu.errors import ScenarioError
from emu.running.replay import Replay
from emu.running.run import Run
from emu.running.witness import Witness, is_usable, is_used


def with_witnesses(replay: Replay, run: Run, wanted: Signature | None = None) -> Iterator[Replay]:
    """Yield replays cut after the first possible finding, and continued by a device that may use the translation.

    Args:
        run: the run of the replay.
        wanted: the signature of the finding to take; None to take any.

    Raises:
        ScenarioError: if there is no such finding, or the domain has no device.
    """
    shown = run.reported
    for one, finding in shown.signed() if shown else ():
        if shown and is_usable(finding) and wanted in {None, one}:
            schedule = replay.saved.schedule().cut(finding.step)
            for witness in Witness.all_of(finding, shown.machine):
                yield attrs.evolve(replay, saved=replay.saved.following(schedule, witness, str(one)))
            return
    raise ScenarioError("there is nothing that a device could witness: no stale translation is merely possible")


def is_witnessed(replay: Replay, run: Run) -> bool:
    """Whether a device has used the stale translation that a replay is about."""
    signed = run.reported.signed() if run.reported else ()
    return any(is_used(finding) and str(one) == replay.saved.about for one, finding in signed)


def witnessed(replay: Replay, run: Run, host: str, wanted: Signature | None = None) -> tuple[Replay, Run]:
    """Let a device use a stale translation right after its finding; return the first way in which it does.

    Where it does in none, return the first way that was tried. `with_witnesses` describes the arguments.

    Raises:
        ScenarioError: if there is no such finding, or the domain has no device.
    """
    tried: list[tuple[Replay, Run]] = []
    for one in with_witnesses(replay, run, wanted):
        tried.append((one, one.run(host)))
        if is_witnessed(*tried[-1]):
            return tried[-1]
    return tried[0]


def run_with_witness(replay: Replay, run: Run, wanted: Signature) -> tuple[Replay, Run] | None:
    """Let a device use a stale translation right after its finding, on Trio tasks; return None where it does not."""
    try:
        found, shown = witnessed(replay, run, "trio", wanted)
    except ScenarioError:
        return None
    return (found, shown) if is_used(shown.finding_with(wanted)) else None
