"""The command line. Data goes to stdout, everything else to stderr; each verb imports what it needs when it runs.

Each verb has a file of its name. This file only answers Ctrl-C while the rest is still being imported. The verbs share:

verbs.py     the group of verbs, and the sentence and status for each way to end
options.py   options that several verbs take
files.py     files that the user names
shown.py     the execution of a log or of a schedule, for timeline and export
schedules.py where the schedules of findings are saved
terminal.py  colour, and progress on stderr
output.py    printing to stdout
stepping.py  what `emu replay --step` does: prompt.py reads its commands, debugger.py starts Python's debugger
log_options.py  the options of `emu log`; log_input.py what it reads
ending.py    Ctrl-C, a scenario's mistake, and the exit status for a verdict
"""

import os
import signal
import sys
from importlib import import_module

STOPPED = 130


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit status 2."""
    status = run_cli()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # everything is printed: Ctrl-C can no longer lose anything
    sys.exit(status)


def run_cli() -> int:
    """Run the command line and return its exit status."""
    try:
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process runs
        import_undisturbed("orjson")
        from emu.cli.verbs import run_verb

        return run_verb()
    except KeyboardInterrupt:
        print("emu: stopped", file=sys.stderr)  # noqa: T201 - click may not have been imported yet
        return STOPPED


def import_undisturbed(name: str) -> None:
    """Import an extension module while Ctrl-C waits: an interrupt in the middle of orjson's import crashes Python."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        import_module(name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
