"""`emu list`: the scenarios that there are."""

import click

from emu.cli.options import json_option
from emu.cli.output import show_json

INDENT = 31
"""Where the values of a parameter begin."""


@click.command("list")
@json_option("Print JSON.")
def list_command(*, as_json: bool) -> None:
    """Show the scenarios, what each tells, and its parameters."""
    from emu.platforms import VTD
    from emu.scenarios.library import bundled
    from emu.scenarios.parameters import Parameter, machine_parameters
    from emu.scenarios.scenario import Scenario

    def parameter_data(parameter: Parameter) -> dict[str, str]:
        takes, default = parameter.takes(), parameter.show(parameter.default)
        data = {"name": parameter.name, "takes": takes, "default": default}
        return {**data, "meaning": parameter.meaning} if parameter.meaning else data

    def parameters_data(scenario: Scenario) -> list[dict[str, str]]:
        return [parameter_data(parameter) for parameter in scenario.parameters]

    scenarios = bundled().values()
    common = [parameter_data(parameter) for parameter in machine_parameters(VTD)]
    if as_json:
        listed = [{"name": one.name, "story": one.story, "parameters": parameters_data(one)} for one in scenarios]
        show_json({"scenarios": listed, "machine_parameters": common})
        return
    for scenario in scenarios:
        show(scenario.name, scenario.story, parameters_data(scenario))
    show("every scenario", "Parameters of the machine.", common)


def show(name: str, story: str, parameters: list[dict[str, str]]) -> None:
    """Print one entry: name, story, and a line for each parameter."""
    click.secho(name, bold=True)
    click.echo(click.wrap_text(story, width=80, initial_indent="  ", subsequent_indent="  "))
    for parameter in parameters:
        setting = f"-p {parameter['name']}={parameter['default']}"
        line = f"  {setting:<28} {parameter['takes']}"
        click.echo(click.wrap_text(line, width=80, subsequent_indent=" " * INDENT))
    click.echo()
