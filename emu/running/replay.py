"""Replaying a saved schedule with the code that it needs."""

import shlex
from collections.abc import Mapping

import attrs

from emu.errors import ScenarioError
from emu.hypervisor.revisions.loader import ALL_BUNDLED
from emu.platforms import PLATFORMS, Platform
from emu.running.digests import Code
from emu.running.read import read
from emu.running.run import Run
from emu.running.save import SavedSchedule
from emu.running.shrink import Shortened, preemptions_of
from emu.scenarios.library import bundled_names, find
from emu.scenarios.scenario import BoundScenario


@attrs.frozen
class Replay:
    """A saved schedule with the code that it is about.

    Attributes:
        named: the name or path of the scenario.
        revision: the name or path of the revision.
    """

    saved: SavedSchedule
    named: str
    revision: str
    bound: BoundScenario

    @classmethod
    def of(
        cls,
        text: str,
        scenario: str | None,
        parameters: dict[str, str],
        platforms: Mapping[str, Platform] = PLATFORMS,
    ) -> "Replay":
        """Read a schedule and find its scenario and revision.

        Args:
            scenario: the path of the scenario, if the user names one.
            parameters: the parameters that the user names: only the revision is allowed.
            platforms: the vendors.

        Raises:
            ScenarioError: if the schedule cannot be read, or needs code that the user has not named.
        """
        saved = read(text)
        for name in parameters:
            if name != "revision":
                raise ScenarioError(f"a replay takes its parameters from the schedule: leave -p {name} out")
        revision = parameters.get("revision")
        if scenario is None and not saved.scenario.comes_with(bundled_names()):
            raise ScenarioError(
                f"the schedule is of the scenario {saved.scenario.name[:80]!r}, which does not come with emu: add the "
                "path of its file, `emu replay SCHEDULE path/to/scenario.py`"
            )
        if revision is None and not saved.revision.comes_with(ALL_BUNDLED):
            raise ScenarioError(
                f"the schedule is of the revision {saved.revision.name[:80]!r}, which does not come with emu: add its "
                "folder, `-p revision=PATH`"
            )
        named = scenario or saved.scenario.name
        revision = revision or saved.revision.name
        return cls(saved, named, revision, saved.bind(find(named), revision, platforms))

    def claiming(self, expect: str | None, like: str | None) -> "Replay":
        """Return a copy with a claim that the user states (see `BoundScenario.claiming`)."""
        return attrs.evolve(self, bound=self.bound.claiming(expect, like))

    @classmethod
    def with_code(cls, saved: SavedSchedule, named: str, bound: BoundScenario) -> "Replay":
        """Return the replay of a schedule with the code that has just executed it."""
        return cls(saved, named, bound.values["revision"], bound)

    def changes(self) -> list[str]:
        """Return a sentence for the scenario and the revision each, if it has changed since the schedule was saved."""
        remarks = []
        if Code.of_scenario(self.named, self.bound.scenario.name).digest != self.saved.scenario.digest:
            remarks.append(f"the scenario {self.saved.scenario.name} has changed since the schedule was saved")
        if Code.of_revision(self.revision, self.bound.platform).digest != self.saved.revision.digest:
            remarks.append(f"the revision is not {self.saved.revision.name} as it was when the schedule was saved")
        return remarks

    def run(self, host: str) -> Run:
        """Repeat the execution."""
        run = self.prepared()
        run.on(host)
        if run.shortened is not None and not self.bears_out(run, run.shortened):
            run.shortened = None
        return run

    def bears_out(self, run: Run, known: Shortened) -> bool:
        """Whether what the file says of its schedule can be: of its finding, with its code and so many preemptions."""
        signed = run.reported.signed() if run.reported else ()
        finding = next((finding for one, finding in signed if str(one) == self.saved.about), None)
        if run.reported is None or finding is None or self.changes():
            return False
        return run.witness is not None or preemptions_of(finding, run.reported.machine) == known.preemptions

    def prepared(self) -> Run:
        """Return the run of the execution, not yet begun."""
        saved = self.saved
        return Run(
            self.bound,
            saved.strategy,
            saved.seed,
            1,
            replay=saved.schedule(),
            witness=saved.witness,
            shortened=saved.shortened,
        )

    def command(self, text: str) -> str:
        """Return the command that replays the schedule from this file or token."""
        return shlex.join(replay_words(self.saved, text, self.named, self.revision))


def replay_words(saved: SavedSchedule, text: str, scenario: str, revision: str) -> list[str]:
    """Return the words of the command that replays a schedule from this file or token.

    Args:
        scenario, revision: the paths of the code, named where that does not come with emu.
    """
    words = ["emu", "replay", text]
    if not saved.scenario.comes_with(bundled_names()):
        words.append(scenario)
    if not saved.revision.comes_with(ALL_BUNDLED):
        words += ["-p", f"revision={revision}"]
    return words
