"""`emu cost`: what the flushes of a call cost, by revision."""

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import click

from emu.cli.options import json_option, parameters_option, parse_parameters
from emu.cli.output import show_json, show_paragraph
from emu.cli.terminal import wants_colors

if TYPE_CHECKING:
    from emu.running.cost import Cost

CALLS = ("map", "replace", "unmap", "unmap-again", "map-fails", "move", "boot")
ORDERS = (0, 1, 2, 9)
STOPPED = 3
JUDGED = ("widen", "refuse_gaps", "hook_faults", "allocation_faults", "wait_faults")
"""Parameters of a machine that change nothing where nothing is judged and nothing fails."""


@click.command("cost", short_help="Count what the flushes of a call cost.")
@click.argument("calls", nargs=-1, metavar="[CALL]...", type=click.Choice(CALLS))
@click.option(
    "--order",
    "orders",
    type=click.IntRange(0, 18),
    multiple=True,
    help="Pages of the call: 2^order.  [0, 1, 2 and 9]",
)
@click.option("--revision", "revisions", multiple=True, metavar="REVISION", help="A revision.  [all of emu's]")
@parameters_option("NAME=VALUE", "Set a parameter of the machine, such as iommu=amd or units=2.")
@json_option("Print JSON.")
def cost_command(
    *,
    calls: tuple[str, ...],
    orders: tuple[int, ...],
    revisions: tuple[str, ...],
    parameters: tuple[str, ...],
    as_json: bool,
) -> int:
    """Count what the flushes of a CALL for 2^order pages cost, by revision.

    CALL is map, replace, unmap, unmap-again, map-fails, move or
    boot; without any, all that the vendor has. Only flushes are counted, and nothing is judged.
    """
    from emu.reports.cost import data
    from emu.running.cost import Call, calls_on, count, revisions_on

    texts = parse_parameters(parameters)
    refuse_options(texts)
    found, status = [], 0
    try:
        known = revisions or revisions_on(texts)
        for call, order in product(map(Call, calls) if calls else calls_on(texts), orders or ORDERS):
            costs = [count(call, order, revision, texts) for revision in known]
            found += costs
            if not as_json:
                show_table(costs)
    except KeyboardInterrupt:
        click.echo("emu: stopped; what is counted so far is shown", err=True)
        status = STOPPED
    if as_json:
        show_json("cost", {"parameters": texts, "costs": [data(one) for one in found], "was_stopped": bool(status)})
    else:
        show_note(texts.get("use", ""))
    return status


def refuse_options(texts: Mapping[str, str]) -> None:
    """Refuse parameters that have an option of their own, or that change nothing.

    Raises:
        click.UsageError: naming the option, or the parameter.
    """
    for name, instead in {"revision": "--revision", "call": "CALL", "order": "--order"}.items():
        if name in texts:
            raise click.UsageError(f"write {instead}, not -p {name}=...")
    for name in texts.keys() & set(JUDGED):
        raise click.UsageError(f"-p {name} changes nothing here: nothing fails, and nothing is judged")


def show_table(costs: Sequence["Cost"]) -> None:
    """Print the table of a call."""
    from emu.reports.cost import HEADS, kinds, line, row, title

    first, *_ = costs
    colors = wants_colors(sys.stdout)
    show_paragraph(title(first.call, first.order), bold=True)
    for head in HEADS:
        click.secho(row(head), bold=True, color=colors)
    for one in costs:
        click.echo(line(one))
    show_paragraph(kinds(costs))
    click.echo()
    sys.stdout.flush()


def show_note(use: str) -> None:
    """Print what the columns mean, and why hooks do nothing where the IOMMU is used otherwise."""
    from emu.reports.cost import NOTE, UNUSED

    unused = {one.value: text for one, text in UNUSED.items()}
    show_paragraph(f"{unused[use]} {NOTE}" if use in unused else NOTE)
