"""The execution that `emu timeline` and `emu export` show: of a log, or of a saved schedule, which is replayed."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import orjson

from emu.cli.ending import refuse_failure
from emu.cli.files import code_of, refuse_unwritable, written
from emu.cli.options import SCENARIO_PATH, SCHEDULE, parameters_option, parse_parameters, stack
from emu.cli.replay import run_that_fits
from emu.errors import reason_of
from emu.files.bounded import size

if TYPE_CHECKING:
    from emu.reports.recorded import Recorded

LOG_BYTES_MAX = 256 << 20
PAGE_BYTES_MAX = 2 << 30

shown_options = stack(
    SCHEDULE,
    SCENARIO_PATH,
    parameters_option("revision=PATH", "Name a revision of your own, for a schedule."),
    click.option("--execution", type=click.IntRange(0), help="Which execution of a log.  [first with a finding]"),
)


@attrs.frozen
class Shown:
    """An execution to be shown.

    Attributes:
        stem: a name for what shows it.
        read: the files that it is read from.
        load: reads the log, or replays the schedule.
    """

    stem: str
    read: list[str | Path]
    load: Callable[[], "Recorded"]

    @classmethod
    def of(cls, named: str, scenario: str | None, parameters: tuple[str, ...], execution: int | None) -> "Shown":
        """Find out what the user has named: a token, a schedule or a log.

        Raises:
            click.UsageError: for a file that cannot be read, and for an option that the other sort of file takes.
        """
        from emu.running.save import TOKEN_PREFIX

        if named.startswith(TOKEN_PREFIX) or not is_log(named):
            if execution is not None:
                raise click.UsageError("a schedule has one execution: leave --execution out")
            return cls.of_schedule(named, scenario, parameters)
        if scenario is not None or parameters:
            raise click.UsageError("a log needs no code: leave the scenario and -p out")
        return cls(Path(named).stem, [named], lambda: recorded_in(named, execution))

    @classmethod
    def of_schedule(cls, named: str, scenario: str | None, parameters: tuple[str, ...]) -> "Shown":
        """Find the code of a schedule."""
        from emu.running.replay import Replay
        from emu.running.save import TOKEN_PREFIX, file_word

        repeated = Replay.of(named, scenario, parse_parameters(parameters))
        saved = repeated.saved
        for remark in repeated.changes():
            click.echo(f"emu: {remark}", err=True)

        def load() -> "Recorded":
            from emu.reports.recorded import Recorded
            from emu.reports.run import RunReport

            run = run_that_fits(repeated, "direct")
            refuse_failure(run, lambda: None)
            report = RunReport(run, repeated.named, about=saved.about)
            return Recorded.of(report.records(with_order=True), saved.scenario.name)

        stem = (
            f"{file_word(saved.scenario.name)}-{saved.digest()}" if named.startswith(TOKEN_PREFIX) else Path(named).stem
        )
        return cls(stem, [*code_of(repeated.bound), named], load)

    def write(self, what: str, output: str | None, suffix: str, content: "Callable[[Recorded], bytes]") -> None:
        """Write what shows it to a file, and print the path, unless the file is a pipe or standard output.

        Args:
            what: names the file in sentences.
            output: the path; None for a name that is derived from the input.
        """
        from emu.files.whole import is_stream

        path = f"{self.stem}{suffix}" if output is None else output
        refuse_unwritable(what, path, self.read)
        shown = content(self.load())
        with written(what, path, lambda file: file.write(shown), PAGE_BYTES_MAX):
            pass
        if not is_stream(Path(path)):
            click.echo(path)


def is_log(path: str) -> bool:
    """Whether the first line of a file is a record of a log.

    Raises:
        click.UsageError: if it cannot be read, is no regular file or is too large.
    """
    from emu.reports.reading import LINE_BYTES_MAX

    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise click.UsageError(f"{path!r} is no regular file: name a log or a schedule")
        with Path(path).open("rb") as file:
            first = file.readline(LINE_BYTES_MAX)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path!r} cannot be read: {reason_of(error)}") from None
    if found.st_size > LOG_BYTES_MAX:
        raise click.UsageError(f"{path!r} is larger than {size(LOG_BYTES_MAX)}, the most that can be shown")
    try:
        record: Any = orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return isinstance(record, dict) and "event" in record


def recorded_in(path: str, execution: int | None) -> "Recorded":
    """Read one execution of a log."""
    from emu.reports.reading import read_records
    from emu.reports.recorded import Recorded, one_execution

    with Path(path).open("rb") as file:
        return Recorded.of(one_execution(read_records(file, path), execution, path), path)
