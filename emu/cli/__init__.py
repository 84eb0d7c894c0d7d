"""The command line. Data goes to stdout, everything else to stderr; each verb imports what it needs when it runs.

Each verb has a file of its name. What they share:

options.py   options that several verbs take
files.py     the files that the user names
terminal.py  colour, and progress on stderr
output.py    what is printed to stdout
ending.py    Ctrl-C, a scenario's mistake, and the exit status for a verdict
"""

import os
import sys
import traceback
from typing import Any

import click

from emu.cli.bench import bench_command
from emu.cli.check import check_command
from emu.cli.ending import EMULATOR_BUG
from emu.cli.explore import explore_command
from emu.cli.list import list_command
from emu.cli.log import log_command
from emu.cli.new import new_group
from emu.cli.replay import replay_command
from emu.cli.run import run_command
from emu.errors import EmuError, InternalError

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


class Verbs(click.Group):
    """The verbs. Where the reader of their output has gone they end quietly, with a status that means nothing else."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb and see its output out."""
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
    second Ctrl-C. check and bench have meanings of their own for 0 and 1.
    """


cli.add_command(explore_command)
cli.add_command(bench_command)
cli.add_command(check_command)
cli.add_command(list_command)
cli.add_command(log_command)
cli.add_command(new_group)
cli.add_command(replay_command)
cli.add_command(run_command)


def abandon_output() -> None:
    """Send the rest of the output nowhere, so that the interpreter does not fail on it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit status 2."""
    sys.exit(run_cli())


def run_cli() -> int:
    """Run the command line and return its exit status."""
    try:
        return int(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        status, message = error.exit_code, error.format_message()
    except InternalError as error:
        status, message = EMULATOR_BUG, str(error)
    except EmuError as error:
        status, message = USAGE, str(error)
    except click.exceptions.Abort:
        status, message = INTERRUPTED, "stopped"
    except OSError as error:
        abandon_output()
        status, message = USAGE, f"cannot write: {error.strerror}"
    except Exception as error:  # noqa: BLE001 - any other is a bug of emu; the traceback is for the report
        traceback.print_exc()
        status, message = EMULATOR_BUG, str(InternalError(f"{type(error).__name__}: {error}"))
    click.echo(message if message.startswith("Usage:") else f"emu: {message}", err=True)
    return status
