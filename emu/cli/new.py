"""`emu new`: copies a revision or a scenario that comes with emu, for the user to change."""

import ast
import keyword
import re
import shlex
import shutil
from pathlib import Path

import click

from emu.errors import reason_of


@click.group("new")
def new_group() -> None:
    """Begin something of your own."""


@new_group.command("revision", short_help="Copy a revision that comes with emu.")
@click.argument("name", metavar="FOLDER")
@click.option("--from", "origin", default="merged", show_default=True, help="The revision that comes with emu.")
def new_revision_command(*, name: str, origin: str) -> None:
    """Copy a revision that comes with emu to FOLDER, for you to change."""
    for file in copy_revision(origin, Path(name)):
        click.echo(file)
    written = name if name.startswith((".", "/")) else f"./{name}"
    click.echo(f"change it, then: emu check {shlex.quote(written)} --against {origin}")


def copy_revision(origin: str, folder: Path) -> list[Path]:
    """Copy a revision that comes with emu to a new folder; return the files in it.

    Raises:
        ScenarioError: if no such revision comes with emu.
        click.UsageError: if the folder exists, or cannot be made.
    """
    from emu.hypervisor.revisions.loader import is_bundled, place_of, unknown_revision

    if not is_bundled(origin):
        raise unknown_revision(origin)
    try:
        shutil.copytree(place_of(origin), folder, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    except FileExistsError:
        raise click.UsageError(f"{folder} exists already: name a folder that does not") from None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{str(folder)!r} cannot be made: {reason_of(error)}") from None
    return sorted(folder.glob("*.py"))


TEMPLATE = "new/race.py"
"""The scenario to begin with, below the folder of scenarios: linters and tests hold it like any other."""

TEMPLATE_NAME = "race"
NAME_MAX = 60
"""The most characters in the name of a new scenario."""


@new_group.command("scenario", short_help="Write a scenario to begin with.")
@click.argument("name")
def new_scenario_command(*, name: str) -> None:
    """Write NAME.py, a race of two CPUs that runs at once, for you to change.

    NAME is the name of the scenario, or the path of its file.
    """
    file = write_scenario(name)
    path = shlex.quote(str(file))
    click.echo(file)
    click.echo(f"change it, then: emu explore {path}")
    click.echo(f"one execution that shows it: emu run {path} --executions 1000")
    click.echo(f"without the race: emu explore {path} -p repaired=true")
    click.echo(f"on AMD-Vi: emu explore {path} -p iommu=amd")


def write_scenario(name: str) -> Path:
    """Write a new scenario; return its file.

    Raises:
        click.UsageError: if the file exists, or cannot be written, or if its name cannot be that of a scenario.
    """
    from emu.bundled import folder
    from emu.files.whole import write_new
    from emu.scenarios.library import SOURCE_BYTES_MAX

    path = Path(name.removesuffix(".py") + ".py")
    text = (folder("scenarios") / TEMPLATE).read_text(encoding="utf-8")
    refuse_name(path.stem, text)
    try:
        if path.exists():
            raise click.UsageError(f"{path} exists already: name a file that does not")
        return write_new(iter([path]), named(text, path.stem).encode(), SOURCE_BYTES_MAX)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{str(path)!r} cannot be written: {reason_of(error)}") from None


def named(template: str, name: str) -> str:
    """Return the template with its function under another name."""
    return template.replace(f"def {TEMPLATE_NAME}(", f"def {name}(")


def refuse_name(name: str, template: str) -> None:
    """Refuse a name that the function of a scenario cannot have.

    Raises:
        click.UsageError: saying which names it can have.
    """
    if not re.fullmatch(rf"[a-z_][a-z0-9_]{{0,{NAME_MAX - 1}}}", name) or keyword.iskeyword(name):
        raise click.UsageError(
            f"{name!r} is no name of a scenario: use small letters, digits and underscores, at most {NAME_MAX}, such "
            "as freed_before_flush"
        )
    taken = {node.id for node in ast.walk(ast.parse(template)) if isinstance(node, ast.Name)}
    if name in taken:
        raise click.UsageError(f"the file uses the name {name!r} for something else: name the race")
