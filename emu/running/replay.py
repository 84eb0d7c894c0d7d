"""Replaying a saved schedule: which code it needs, what has changed since, and a witness at its end."""

import shlex
from collections.abc import Mapping

import attrs

from emu.checks.findings import OldPath
from emu.checks.signatures import Signature, signature
from emu.errors import ScenarioError
from emu.hypervisor.revisions.loader import BUNDLED
from emu.platforms import PLATFORMS, Platform
from emu.running.run import Run
from emu.running.save import SavedSchedule, Witness, read, revision_code, scenario_code
from emu.scenarios.library import bundled_names, find
from emu.scenarios.scenario import BoundScenario
from emu.units import Dfn


@attrs.frozen
class Replay:
    """A saved schedule with the code that it is about.

    Attributes:
        named: the scenario, by name or by path.
        revision: by name or by path.
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
            scenario: the path that the user names, if any.
            parameters: of which only the revision may be named.
            platforms: the vendors that there are.

        Raises:
            ScenarioError: if it cannot be read, or needs code that the user has not named.
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
        if revision is None and not saved.revision.comes_with(BUNDLED):
            raise ScenarioError(
                f"the schedule is of the revision {saved.revision.name[:80]!r}, which does not come with emu: add its "
                "folder, `-p revision=PATH`"
            )
        named = scenario or saved.scenario.name
        revision = revision or saved.revision.name
        return cls(saved, named, revision, saved.bind(find(named), revision, platforms))

    def changes(self) -> list[str]:
        """Return what is not as it was when the schedule was saved, as sentences."""
        remarks = []
        if scenario_code(self.named, self.bound.scenario.name).digest != self.saved.scenario.digest:
            remarks.append(f"the scenario {self.saved.scenario.name} has changed since the schedule was saved")
        if revision_code(self.revision, self.bound.platform).digest != self.saved.revision.digest:
            remarks.append(f"the revision is another one than {self.saved.revision.name} as it was when saved")
        return remarks

    def run(self, host: str) -> Run:
        """Repeat the execution."""
        saved = self.saved
        witness = (saved.witness.device, Dfn(saved.witness.dfn)) if saved.witness else None
        run = Run(self.bound, saved.strategy, saved.seed, 1, replay=saved.schedule(), witness=witness)
        run.on(host)
        return run

    def with_witness(self, run: Run, wanted: Signature | None = None) -> "Replay":
        """Return the replay cut after its first possible finding, with a device that uses what is stale.

        Args:
            wanted: take the first finding with this signature.

        Raises:
            ScenarioError: if there is no such finding, or the domain has no device.
        """
        for finding in run.matters.findings if run.matters else ():
            if isinstance(finding, OldPath) and finding.use is None and run.matters is not None:
                machine = run.matters.machine
                if wanted is not None and signature(finding, machine.trace) != wanted:
                    continue
                schedule = self.saved.schedule().cut(finding.step)
                witness = Witness(machine.user_of(finding).bdf, finding.dfn)
                about = str(signature(finding, machine.trace))
                return attrs.evolve(self, saved=self.saved.following(schedule, witness, about))
        raise ScenarioError("there is nothing that a device could witness: no stale translation is merely possible")

    def is_witnessed(self, run: Run) -> bool:
        """Whether a device has used what the schedule is about."""
        return run.matters is not None and any(
            isinstance(finding, OldPath)
            and finding.use is not None
            and str(signature(finding, run.matters.machine.trace)) == self.saved.about
            for finding in run.matters.findings
        )

    def command(self, text: str) -> str:
        """Return the command that repeats it again."""
        words = ["emu", "replay", text]
        if not self.saved.scenario.comes_with(bundled_names()):
            words.append(self.named)
        if not self.saved.revision.comes_with(BUNDLED):
            words += ["-p", f"revision={self.revision}"]
        return shlex.join(words)
