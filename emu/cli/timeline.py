"""`emu timeline`: one execution as a page for a browser."""

import click

from emu.cli.shown import Shown, shown_options


@click.command("timeline", short_help="Show an execution as a page for a browser.")
@shown_options
@click.option("-o", "output", metavar="PATH", help="The page.  [the input's name, .timeline.html]")
def timeline_command(
    *, schedule: str, scenario: str | None, parameters: tuple[str, ...], execution: int | None, output: str | None
) -> None:
    """Show one execution as an HTML page that needs no network, and print its path.

    FILE is a log that `emu run --log` wrote, or a saved schedule; a schedule is
    replayed, and needs what `emu replay` needs.
    """
    from emu.reports.timeline.data import timeline
    from emu.reports.timeline.page import page

    shown = Shown.of(schedule, scenario, parameters, execution)
    shown.write("timeline", output, ".timeline.html", lambda recorded: page(timeline(recorded)))
