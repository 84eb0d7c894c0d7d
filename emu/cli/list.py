"""`emu list`: lists the scenarios, or the revisions."""

import click

from emu.cli.options import json_option
from emu.cli.output import show_json, show_title

INDENT = 31
"""The column in which the values of a parameter begin."""


@click.command("list")
@json_option("Print JSON.")
@click.option("--revisions", is_flag=True, help="Show the revisions that come with emu instead.")
def list_command(*, as_json: bool, revisions: bool) -> None:
    """Show the scenarios, what each tells, and its parameters."""
    if revisions:
        list_revisions(as_json=as_json)
    else:
        list_scenarios(as_json=as_json)


def list_scenarios(*, as_json: bool) -> None:
    """Print every scenario with its parameters, and the parameters of a machine."""
    from emu.platforms import PLATFORMS
    from emu.scenarios.library import bundled
    from emu.scenarios.parameters import machine_parameters, parameter_data
    from emu.scenarios.scenario import Scenario

    def parameters_data(scenario: Scenario) -> list[dict[str, str]]:
        return [parameter_data(parameter) for parameter in scenario.parameters]

    def scenario_data(scenario: Scenario) -> dict[str, object]:
        only = {"only": dict(scenario.only)} if scenario.only else {}
        return {"name": scenario.name, "story": scenario.story, "parameters": parameters_data(scenario), **only}

    scenarios = bundled().values()
    first, *others = PLATFORMS.values()
    common = [parameter_data(parameter) for parameter in machine_parameters(first)]
    if as_json:
        listed = [scenario_data(one) for one in scenarios]
        of_others = {one.name: [parameter_data(parameter) for parameter in machine_parameters(one)] for one in others}
        show_json("scenarios", {"scenarios": listed, "machine_parameters": common, "with_iommu": of_others})
        return
    for scenario in scenarios:
        story = " ".join((scenario.story, *(f"Only {vendor}: {why}." for vendor, why in scenario.only.items())))
        show(scenario.name, story, parameters_data(scenario))
    show("every scenario", "Parameters of the machine.", common)
    known = [shown(one) for one in common]
    for platform in others:
        differing = [one for one in map(parameter_data, machine_parameters(platform)) if shown(one) not in known]
        lacks = ", ".join(platform.refused)
        show(f"every scenario with -p iommu={platform.name}", f"It has these instead, and not {lacks}.", differing)


def list_revisions(*, as_json: bool) -> None:
    """Print every bundled revision: its name, its story, its commit in Xen, and its folder."""
    from emu.engine.sources import from_here
    from emu.hypervisor.revisions.catalogue import bundled_revisions

    listed = [
        {"name": one.name, "story": one.story, "commit": one.commit, "folder": from_here(one.folder)}
        for one in bundled_revisions()
    ]
    if as_json:
        show_json("revisions", {"revisions": listed})
        return
    for one in listed:
        show_title(str(one["name"]), str(one["story"]))
        click.echo(f"  commit  {one['commit'] or 'none: posted as a patch'}")
        click.echo(f"  folder  {one['folder']}\n")


def shown(parameter: dict[str, str]) -> str:
    """Return a parameter as its line shows it."""
    setting = f"-p {parameter['name']}={parameter['default']}"
    return f"  {setting:<28} {parameter['takes']}"


def show(name: str, story: str, parameters: list[dict[str, str]]) -> None:
    """Print one entry: name, story, and a line for each parameter."""
    show_title(name, story)
    for parameter in parameters:
        click.echo(click.wrap_text(shown(parameter), width=80, subsequent_indent=" " * INDENT))
    click.echo()
