"""`emu new revision`: a copy of a revision that comes with emu, to be changed."""

import shutil
from pathlib import Path

import click


@click.group("new")
def new_group() -> None:
    """Begin something of your own."""


@new_group.command("revision")
@click.argument("name", metavar="FOLDER")
@click.option("--from", "origin", default="merged", show_default=True, help="The revision that comes with emu.")
def new_revision_command(*, name: str, origin: str) -> None:
    """Copy a revision that comes with emu to FOLDER, for you to change.

    \f
    Raises:
        ScenarioError: if no such revision comes with emu.
        click.UsageError: if the folder exists, or cannot be made.
    """
    from emu.hypervisor.revisions.loader import FOLDER, bundled_name, is_bundled, unknown_revision

    if not is_bundled(origin):
        raise unknown_revision(origin)
    folder, base = Path(name), bundled_name(origin)
    try:
        shutil.copytree(FOLDER / base, folder, ignore=shutil.ignore_patterns("__pycache__"))
    except FileExistsError:
        raise click.UsageError(f"{name} exists already: name a folder that does not") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"{name!r} cannot be made: {reason}") from None
    for file in sorted(folder.glob("*.py")):
        click.echo(file)
    written = name if folder.is_absolute() or name.startswith(".") else f"./{name}"
    click.echo(f"change it, then: emu check {written} --against {base}")
