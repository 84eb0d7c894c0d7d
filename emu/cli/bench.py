"""`emu bench`: benchmarks whose number of traces is known, counted and timed."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from emu.cli.options import json_option
from emu.cli.output import show_json, show_title
from emu.cli.terminal import wants_colors

if TYPE_CHECKING:
    from emu.bench.benchmark import Benchmark, Program

RIGHT, WRONG = 0, 1


@click.command("bench", short_help="Count the traces of benchmarks, and time the search.")
@click.argument("names", nargs=-1)
@click.option("--all", "with_long", is_flag=True, help="Take the sizes that take long, too: some minutes.")
@click.option("--list", "is_list", is_flag=True, help="Show the benchmarks, and run none.")
@json_option("Print JSON.")
def bench_command(*, names: tuple[str, ...], with_long: bool, is_list: bool, as_json: bool) -> int:
    """Count the traces of benchmarks, and time the search that finds them.

    NAMES are benchmarks, perhaps with a size: `sb`, `sb-6`. Without any, all
    of them are taken, single steps are timed too, and the traces of the
    reference race R1 are counted, detail by detail.

    Exit status 1 if a count is not as it is known to be; no time decides it.
    """
    from emu.bench.library import benchmarks, find_programs

    programs = find_programs(names, with_long=with_long)
    if is_list:
        show_list(list(benchmarks().values()), as_json=as_json)
        return RIGHT
    return show_measures(programs, with_steps=not names) if as_json else show_table(programs, with_steps=not names)


def show_table(programs: Sequence["Program"], *, with_steps: bool) -> int:
    """Print a line for each program as soon as it was measured, then the mistakes; return the exit status."""
    from emu.bench.checks import measure_checks
    from emu.bench.details import measure_details
    from emu.bench.programs import measure
    from emu.bench.steps import measure_steps
    from emu.reports.bench import DETAILS_HEAD, HEAD, NOTE, STEPS_HEAD, details_line, line, steps_line

    colors, mistakes = wants_colors(sys.stdout), []
    click.secho(HEAD, bold=True, color=colors)
    for program in programs:
        measured = measure(program)
        click.secho(line(measured), fg="red" if measured.mistakes() else None, color=colors)
        sys.stdout.flush()
        mistakes += measured.mistakes()
    if with_steps:
        click.secho(f"\n{STEPS_HEAD}", bold=True, color=colors)
        for step in (*measure_steps(), measure_checks()):
            click.echo(steps_line(step))
        click.secho(f"\n{DETAILS_HEAD}", bold=True, color=colors)
        for detail in measure_details():
            click.echo(details_line(detail))
    click.echo(f"\n{click.wrap_text(NOTE, width=80)}")
    for mistake in mistakes:
        click.secho(f"\n{click.wrap_text(f'wrong: {mistake}', width=80)}", fg="red", bold=True, color=colors)
    return WRONG if mistakes else RIGHT


def show_measures(programs: Sequence["Program"], *, with_steps: bool) -> int:
    """Print all measures as JSON; return the exit status."""
    from emu.bench.checks import measure_checks
    from emu.bench.details import measure_details
    from emu.bench.programs import measure
    from emu.bench.steps import measure_steps
    from emu.reports.bench import data, details_data, steps_data

    measured = [measure(program) for program in programs]
    steps = [*measure_steps(), measure_checks()] if with_steps else []
    details = list(measure_details()) if with_steps else []
    report = {
        "programs": [data(one) for one in measured],
        "steps": [steps_data(one) for one in steps],
        "details": [details_data(one) for one in details],
    }
    show_json("bench", report)
    return WRONG if any(one.mistakes() for one in measured) else RIGHT


def show_list(benchmarks: Sequence["Benchmark"], *, as_json: bool) -> None:
    """Print the names, the sizes that are worth a look, and the stories."""
    if as_json:
        listed = [{"name": one.name, "story": one.story, "sizes": one.sizes, "long": one.long} for one in benchmarks]
        show_json("benchmarks", {"benchmarks": listed})
        return
    for one in benchmarks:
        sizes = ", ".join(map(str, one.sizes)) or "none"
        more = f", and {', '.join(map(str, one.long))} with --all" if one.long else ""
        show_title(one.name, one.story)
        click.echo(f"  sizes {sizes}{more}\n")
