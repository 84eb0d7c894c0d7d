"""`emu export`: one execution for a viewer of traces or of waveforms."""

import click

from emu.cli.options import choice_option
from emu.cli.shown import Shown, shown_options


@click.command("export", short_help="Write an execution for Perfetto, or as a VCD.")
@shown_options
@choice_option("--format", ("perfetto", "vcd"), "Trace events in JSON, or a value change dump.")
@click.option("-o", "output", metavar="PATH", help="The file.  [the input's name, .perfetto.json or .vcd]")
def export_command(
    *,
    schedule: str,
    scenario: str | None,
    parameters: tuple[str, ...],
    execution: int | None,
    format: str,  # noqa: A002 - it is the option's name
    output: str | None,
) -> None:
    """Write one execution for a viewer, and print the path of the file.

    FILE is a log that `emu run --log` wrote, or a saved schedule; a schedule is
    replayed, and needs what `emu replay` needs.
    """
    from emu.reports.exports.perfetto import perfetto
    from emu.reports.exports.vcd import vcd

    shown = Shown.of(schedule, scenario, parameters, execution)
    if format == "vcd":
        shown.write("VCD", output, ".vcd", vcd)
    else:
        shown.write("trace", output, ".perfetto.json", perfetto)
