"""Saved schedules: a file for keeping, a token for chat. Data only; reading one runs and imports nothing.

A saved schedule names its scenario and revision by name and digest. Code that does not come with emu is loaded only if
whoever replays it names it.
"""

import base64
import hashlib
import zlib
from collections.abc import Collection, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import cattrs
import orjson

from emu.bundled import folder
from emu.checks.signatures import Signature
from emu.engine import Schedule
from emu.errors import ScenarioError
from emu.hypervisor.revisions.loader import BUNDLED
from emu.platforms import Platform
from emu.running.run import Run
from emu.scenarios.scenario import BoundScenario, Scenario

FORMAT = "emu-schedule-1"
TOKEN_PREFIX = "emu1:"  # noqa: S105 - it is no secret
BYTES_MAX = 64 << 20
STEPS_MAX = 1_000_000
TOKEN_MAX = 1 << 20


@attrs.frozen
class Witness:
    """An access that is appended to a schedule: a device of the domain reads a page."""

    device: str
    dfn: int


@attrs.frozen
class Code:
    """Which scenario or revision: its name, and a digest of its files."""

    name: str
    digest: str
    is_bundled: bool

    def comes_with(self, bundled: Collection[str]) -> bool:
        """Whether it is one that comes with emu: it says so, and its name is one of those."""
        return self.is_bundled and self.name in bundled


@attrs.frozen
class SavedSchedule:
    """All that it takes to repeat an execution.

    Attributes:
        parameters: as a user writes them, without the revision.
        strategy, seed: how it was found.
        agents: the names of those that took steps; `turns` has pairs of an index and a number of steps.
        operations: what each step was, as announced; empty in a token.
        about: the signature of the finding that it was saved for, as a text; empty if it was for none in particular.
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

    def schedule(self) -> Schedule:
        """Return the schedule.

        Raises:
            ScenarioError: if it is none, or longer than any execution may be.
        """
        if sum(max(count, 1) for _, count in self.turns) > STEPS_MAX:
            raise ScenarioError(f"the schedule has more than {STEPS_MAX} steps: it is damaged")
        if not all(0 <= agent < len(self.agents) and count > 0 for agent, count in self.turns):
            raise ScenarioError("the schedule names agents that it does not have: it is damaged")
        steps = tuple(self.agents[agent] for agent, count in self.turns for _ in range(count))
        if self.operations and len(self.operations) != len(steps):
            raise ScenarioError("the schedule has not one operation for each step: it is damaged")
        return Schedule(steps, tuple(self.operations), tuple(self.choices))

    def following(self, schedule: Schedule, witness: Witness, about: str) -> "SavedSchedule":
        """Return the same with another schedule, and a witness of what it is about at its end."""
        agents, turns = in_turns(schedule)
        return attrs.evolve(
            self,
            agents=agents,
            turns=turns,
            choices=list(schedule.choices),
            operations=list(schedule.operations),
            witness=witness,
            about=about,
        )

    def token(self) -> str:
        """Return the schedule as a short text, without the operations."""
        packed = zlib.compress(self.token_content(), 9)
        return TOKEN_PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def token_content(self) -> bytes:
        """Return what a token packs: all but the operations."""
        return orjson.dumps(cattrs.unstructure(attrs.evolve(self, operations=[])))

    def write(self, folder: Path) -> Path:
        """Write a new file into a folder and return its path.

        Raises:
            OSError: if it cannot be written.
        """
        stem, number = f"{self.scenario.name}-{self.seed}", 1
        while True:
            path = folder / (f"{stem}.schedule.json" if number == 1 else f"{stem}.{number}.schedule.json")
            try:
                with path.open("xb") as file:
                    file.write(orjson.dumps(cattrs.unstructure(self), option=orjson.OPT_INDENT_2))
            except FileExistsError:
                number += 1
            else:
                return path

    def bind(self, scenario: Scenario, revision: str, platforms: Mapping[str, Platform]) -> BoundScenario:
        """Return the scenario with the saved parameters, on a revision."""
        return scenario.bind({**self.parameters, "revision": revision}, platforms)


def save(run: Run, named: str, about: Signature | None = None) -> SavedSchedule | None:
    """Return the schedule of the execution that matters; None if nothing was executed.

    Args:
        named: the scenario as the user named it.
        about: the finding that it is saved for.
    """
    if run.matters is None:
        return None
    schedule = Schedule.of(run.matters.machine.trace)
    agents, turns = in_turns(schedule)
    set_by_user = dict(pair.split("=", 1) for pair in run.bound.changed())
    set_by_user.pop("revision", None)
    return SavedSchedule(
        FORMAT,
        scenario_code(named, run.bound.scenario.name),
        revision_code(run.bound.values["revision"], run.bound.platform),
        set_by_user,
        run.strategy,
        run.matters.seed,
        agents,
        turns,
        list(schedule.choices),
        list(schedule.operations),
        Witness(run.witness[0], run.witness[1]) if run.witness else None,
        str(about) if about else "",
    )


def in_turns(schedule: Schedule) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the agents of a schedule, and their turns: pairs of an index and a number of steps."""
    agents = sorted(set(schedule.agents))
    return agents, [(agents.index(name), len(list(steps))) for name, steps in groupby(schedule.agents)]


def scenario_code(named: str, name: str) -> Code:
    """Identify a scenario by the file that it comes from."""
    is_bundled = not named.endswith(".py")
    path = folder("scenarios") / f"{named}.py" if is_bundled else Path(named)
    return Code(name, digest([path]), is_bundled)


def revision_code(named: str, platform: Platform) -> Code:
    """Identify a revision by its files."""
    revision = platform.load_revision(named)
    return Code(revision.folder.name, digest(list(revision.files)), named in BUNDLED)


def digest(paths: list[Path]) -> str:
    """Return a digest of files, in order."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()[:16]


def read(text: str) -> SavedSchedule:
    """Read a schedule from a token or a file.

    Raises:
        ScenarioError: if it is none; one sentence, whatever it is instead.
    """
    if text.startswith(TOKEN_PREFIX):
        return parse(unpack(text), "the token")
    path = Path(text)
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ScenarioError(f"the schedule {text!r} cannot be read: {reason}") from None
    if len(content) > BYTES_MAX:
        raise ScenarioError(f"{text!r} is larger than {BYTES_MAX >> 20} MiB: it is no schedule")
    return parse(content, repr(text))


def unpack(token: str) -> bytes:
    """Return the content of a token; never more than a file may hold.

    Raises:
        ScenarioError: if it is damaged.
    """
    body = token.removeprefix(TOKEN_PREFIX)
    if len(body) > TOKEN_MAX:
        raise ScenarioError(f"the token is longer than {TOKEN_MAX >> 20} MiB: use the file")
    try:
        packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, BYTES_MAX)
    except (ValueError, zlib.error):
        raise ScenarioError("the token is damaged: copy it again, whole") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ScenarioError("the token is damaged: copy it again, whole")
    return content


def parse(content: bytes, name: str) -> SavedSchedule:
    """Turn bytes into a schedule.

    Raises:
        ScenarioError: naming where it came from.
    """
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_structure_hook(str, exactly)
    converter.register_structure_hook(int, exactly)
    converter.register_structure_hook(bool, exactly)
    try:
        saved = converter.structure(orjson.loads(content), SavedSchedule)
    except Exception as error:  # noqa: BLE001 - whatever it holds, it is no schedule
        raise ScenarioError(f"{name} is no schedule: {type(error).__name__} while reading it") from None
    if saved.format != FORMAT:
        raise ScenarioError(f"{name} is a schedule of another version of emu: its format is not {FORMAT!r}")
    saved.schedule()
    return saved


def exactly(value: Any, kind: type) -> Any:
    """Take a value of exactly this type; no conversions.

    Raises:
        TypeError: if it is of another.
    """
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value
