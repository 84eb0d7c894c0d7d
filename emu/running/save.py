"""Saving schedules: as a file to keep, or as a token for chat.

A saved schedule is data only. It holds the names and digests of its scenario and revision; code that does not come with
emu is loaded only if the user names it.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from itertools import count, groupby
from pathlib import Path

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_unstructure_fn, override

from emu.checks.signatures import Signature
from emu.engine import Schedule
from emu.errors import ScenarioError
from emu.files.whole import write_new
from emu.platforms import Platform
from emu.running.digests import Code
from emu.running.run import Run
from emu.running.shrink import Shortened
from emu.running.witness import Witness, unstructured
from emu.scenarios.scenario import BoundScenario, Scenario

FORMAT = "emu-schedule-1"
TOKEN_PREFIX = "emu1:"  # noqa: S105 - it is no secret
STEPS_MAX = 1_000_000

MISTAKE = "mistake"
"""Stands for the cause in the name of a schedule that leads to a mistake of the scenario or its revision."""

NAME_MAX = 60
"""The most characters of each word in the name of a file."""
BYTES_MAX = 64 << 20
TOKEN_MAX = 1 << 20


@attrs.frozen
class SavedSchedule:
    """The data that repeats an execution.

    Attributes:
        parameters: the parameters as a user writes them, without the revision.
        strategy, seed: the strategy and the seed that found the schedule.
        agents: the names of the agents that took steps.
        turns: pairs of an index into `agents` and a number of steps.
        operations: the operation that each step announced; empty in a token.
        about: the signature, as a text, of the finding for which it was saved; empty if for none.
        shortened: what is known of the schedule; None if nothing is.
    """

    format: str
    scenario: Code
    revision: Code
    parameters: dict[str, str]
    strategy: str
    seed: int
    agents: list[str]
    turns: list[tuple[int, int]]
    choices: list[int]
    operations: list[str]
    witness: Witness | None = None
    about: str = ""
    shortened: Shortened | None = None

    def schedule(self) -> Schedule:
        """Return the schedule.

        Raises:
            ScenarioError: if its parts do not fit together, or it is too long.
        """
        if sum(max(length, 1) for _, length in self.turns) > STEPS_MAX:
            raise ScenarioError(f"the schedule has more than {STEPS_MAX} steps: it is damaged")
        if not all(0 <= agent < len(self.agents) and length > 0 for agent, length in self.turns):
            raise ScenarioError("the schedule names agents that it does not have: it is damaged")
        steps = tuple(self.agents[agent] for agent, length in self.turns for _ in range(length))
        if self.operations and len(self.operations) != len(steps):
            raise ScenarioError("the schedule does not have one operation for each step: it is damaged")
        return Schedule(steps, tuple(self.operations), tuple(self.choices))

    def following(self, schedule: Schedule, witness: Witness, about: str) -> "SavedSchedule":
        """Return a copy with another schedule, and with a witness at its end that shows the finding `about`."""
        agents, turns = in_turns(schedule)
        return attrs.evolve(
            self,
            agents=agents,
            turns=turns,
            choices=list(schedule.choices),
            operations=list(schedule.operations),
            witness=witness,
            about=about,
            shortened=self.shortened if about == self.about else None,
        )

    def token(self) -> str:
        """Return the schedule as a short text, without the operations."""
        packed = zlib.compress(self.token_content(), 9)
        return TOKEN_PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def token_content(self) -> bytes:
        """Return the content of a token: everything but the operations."""
        return orjson.dumps(cattrs.unstructure(attrs.evolve(self, operations=[])))

    def write(self, folder: Path) -> Path:
        """Write the schedule into a folder, unless it is there already, and return its path.

        The file is named by scenario, revision, cause, and a digest of the parameters and the steps.

        Raises:
            OSError: if the file cannot be written, or is larger than emu reads.
        """
        content = orjson.dumps(cattrs.unstructure(self), option=orjson.OPT_INDENT_2)
        stem = "-".join(map(file_word, (self.scenario.name, self.revision.name, self.cause, self.digest())))
        paths = (folder / (f"{stem}.json" if number == 1 else f"{stem}.{number}.json") for number in count(1))
        return write_new(paths, content, BYTES_MAX)

    @property
    def cause(self) -> str:
        """The kind of the finding for which it was saved; `MISTAKE` if it leads to a mistake of the scenario."""
        return self.about.partition(" ")[0] or MISTAKE

    def digest(self) -> str:
        """Return eight hexadecimal digits, equal for schedules with equal parameters and steps."""
        witness = None if self.witness is None else unstructured(self.witness)
        steps = (sorted(self.parameters.items()), self.agents, self.turns, self.choices, witness)
        return hashlib.sha256(orjson.dumps(steps)).hexdigest()[:8]

    def bind(self, scenario: Scenario, revision: str, platforms: Mapping[str, Platform]) -> BoundScenario:
        """Return the scenario with the saved parameters, on a revision."""
        return scenario.bind({**self.parameters, "revision": revision}, platforms)


cattrs.register_unstructure_hook(
    SavedSchedule,
    make_dict_unstructure_fn(SavedSchedule, cattrs.global_converter, shortened=override(omit_if_default=True)),
)


def schedule_of_run(run: Run, named: str, about: Signature | None = None) -> SavedSchedule | None:
    """Return the schedule of the reported execution; None if nothing was executed.

    Args:
        named: the scenario as the user named it.
        about: the finding for which it is saved.
    """
    if run.reported is None:
        return None
    schedule = Schedule.of(run.reported.machine.trace)
    agents, turns = in_turns(schedule)
    set_by_user = dict(pair.split("=", 1) for pair in run.bound.changed())
    set_by_user.pop("revision", None)
    return SavedSchedule(
        FORMAT,
        Code.of_scenario(named, run.bound.scenario.name),
        Code.of_revision(run.bound.values["revision"], run.bound.platform),
        set_by_user,
        run.strategy,
        run.reported.seed,
        agents,
        turns,
        list(schedule.choices),
        list(schedule.operations),
        run.witness,
        str(about) if about else "",
        run.shortened,
    )


def in_turns(schedule: Schedule) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the agents of a schedule, and their turns: pairs of an index and a number of steps."""
    agents = sorted(set(schedule.agents))
    return agents, [(agents.index(name), len(list(steps))) for name, steps in groupby(schedule.agents)]


def file_word(name: str) -> str:
    """Return a name as a word of a file's name, without any character that could choose a folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:NAME_MAX]
