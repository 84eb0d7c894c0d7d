"""The verbs, and the sentence and status for each way to end. A verb imports what it needs when it runs."""

import os
import sys
import traceback
from typing import Any

import click

from emu.cli.bench import bench_command
from emu.cli.check import check_command
from emu.cli.cost import cost_command
from emu.cli.diff import diff_command
from emu.cli.ending import EMULATOR_BUG
from emu.cli.explain import explain_command
from emu.cli.explore import explore_command
from emu.cli.export import export_command
from emu.cli.list import list_command
from emu.cli.log import log_command
from emu.cli.new import new_group
from emu.cli.replay import replay_command
from emu.cli.run import run_command
from emu.cli.show import show_command
from emu.cli.timeline import timeline_command
from emu.errors import EmuError, InternalError, printable, reason_of, said_by

USAGE, BROKEN_PIPE = 2, 141
PATH_SHOWN = 200
"""How many characters are shown of a path that the system refuses."""


class Verbs(click.Group):
    """The verbs. If the reader of stdout is gone, they end without a message, with a status of its own."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb and flush its output."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            abandon_output()
            return BROKEN_PIPE
        return status


@click.group(
    cls=Verbs,
    context_settings={"auto_envvar_prefix": "EMU", "help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="emu-iommu", prog_name="emu")
def cli() -> None:
    """Find, prove and explain stale-IOTLB races.

    Exit status: 0 what is claimed was seen (for one execution: not
    contradicted; where nothing is claimed: nothing found), 1 contradicted
    (something found), 2 usage, 3 no verdict, 70 a bug of emu, 130 stopped by a
    second Ctrl-C. check, diff and bench have meanings of their own for 0 and 1.
    """


cli.add_command(explore_command)
cli.add_command(bench_command)
cli.add_command(check_command)
cli.add_command(cost_command)
cli.add_command(diff_command)
cli.add_command(explain_command)
cli.add_command(export_command)
cli.add_command(list_command)
cli.add_command(log_command)
cli.add_command(new_group)
cli.add_command(replay_command)
cli.add_command(run_command)
cli.add_command(show_command)
cli.add_command(timeline_command)


def abandon_output() -> None:
    """Discard the rest of the output, so that the interpreter does not fail on it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse_unusable() -> None:
    """Refuse to run without stdout, in an optimized Python, or with an argument that is no text.

    Raises:
        click.UsageError: saying how to mend that.
    """
    if sys.stdout is None:
        raise click.UsageError("standard output is closed: send it somewhere, to /dev/null if it is not wanted")
    if sys.flags.optimize:
        raise click.UsageError(
            "Python runs optimized (-O, PYTHONOPTIMIZE) and so without the assertions and the texts of scenarios: run "
            "emu without that"
        )
    for argument in sys.argv[1:]:
        if not argument.isascii() and printable(argument) != argument:
            raise click.UsageError(f"the argument {argument!a} holds bytes that are no text in UTF-8")


def run_verb() -> int:
    """Run the verb that the command line names, and return the exit status.

    Raises:
        KeyboardInterrupt: if Ctrl-C has stopped the verb.
    """
    try:
        refuse_unusable()
        return int(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        status, message = error.exit_code, error.format_message()
    except InternalError as error:
        status, message = EMULATOR_BUG, str(error)
    except EmuError as error:
        status, message = USAGE, str(error)
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except OSError as error:
        what = "cannot write" if error.filename is None else repr(str(error.filename)[:PATH_SHOWN])
        if error.filename is None:
            abandon_output()
        status, message = USAGE, f"{what}: {reason_of(error)}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it has a sentence and a status
        status, message = of_unforeseen(error)
    click.echo(message if message.startswith("Usage:") else f"emu: {printable(message)}", err=True)
    return status


def of_unforeseen(error: BaseException) -> tuple[int, str]:
    """Return status and sentence for an unforeseen exception: a mistake of the user's code, else a bug of emu."""
    from emu.engine.sources import is_users, raised_in, raised_lines

    if any(map(is_users, raised_lines(error))):
        return USAGE, f"{raised_in(error)} raised {said_by(error)}"
    traceback.print_exception(error)
    return EMULATOR_BUG, str(InternalError(said_by(error)))
