"""`emu new revision`: copies a revision that comes with emu, for the user to change."""

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
