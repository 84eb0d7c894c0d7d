"""`emu show`: shows all that emu knows of a scenario or of a revision."""

from typing import TYPE_CHECKING

import click

from emu.cli.options import json_option
from emu.cli.output import show_json

if TYPE_CHECKING:
    from emu.scenarios.scenario import Scenario


@click.command("show", short_help="Show all about a scenario or a revision.")
@click.argument("name")
@json_option("Print JSON.")
def show_command(*, name: str, as_json: bool) -> None:
    """Show all about NAME: a scenario, the .py file of one, or a revision.

    Of a scenario that is its story, its parameters, what it declares, which
    functions of Xen one execution calls, and the defects that it shows.
    """
    from emu.hypervisor.revisions.catalogue import describe
    from emu.hypervisor.revisions.loader import bundled_name, is_bundled
    from emu.reports import show, show_revision

    if is_bundled(name):
        revision = show_revision.ShownRevision(describe(bundled_name(name)))
        kind, data, lines = "revision", revision.data, show_revision.lines(revision)
    else:
        scenario = show.ShownScenario(scenario_named(name), not name.endswith(".py"))
        kind, data, lines = "scenario", scenario.data, show.lines(scenario)
    if as_json:
        show_json(kind, data())
        return
    for line in lines:
        click.echo(line)


def scenario_named(name: str) -> "Scenario":
    """Return a scenario by its name or its file.

    Raises:
        ScenarioError: if there is none, with the scenario or the revision that may be meant.
    """
    from emu.errors import ScenarioError, did_you_mean
    from emu.hypervisor.revisions.loader import ALL_BUNDLED
    from emu.scenarios.library import bundled_names, find

    if name.endswith(".py") or name in bundled_names():
        return find(name)
    hint = did_you_mean(name, (*bundled_names(), *ALL_BUNDLED))
    raise ScenarioError(f"{name[:80]!r} is no scenario or revision that comes with emu{hint}, and no .py file")
