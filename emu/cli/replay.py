"""`emu replay`: a saved schedule once more."""

from pathlib import Path

import click

from emu.cli.run import EMULATOR_BUG, STATUS, open_log, parse_parameters, show_json, show_text, write_schedule


@click.command("replay")
@click.argument("schedule", metavar="FILE|TOKEN")
@click.argument("scenario", metavar="[SCENARIO.py]", required=False)
@click.option("-p", "parameters", multiple=True, metavar="revision=PATH", help="Name a revision of your own.")
@click.option("--witness", is_flag=True, help="Let a device use what is stale; the rest may differ.")
@click.option("--host", type=click.Choice(("trio", "direct")), default="trio", show_default=True, help="What drives.")
@click.option("--log", "log_path", type=click.Path(), help="Write the log as JSON lines to a file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of the log.")
@click.option("--cycles", "cycles_path", type=click.Path(), help="JSON file: how many cycles events take.")
def replay_command(
    *,
    schedule: str,
    scenario: str | None,
    parameters: tuple[str, ...],
    witness: bool,
    host: str,
    log_path: str | None,
    as_json: bool,
    cycles_path: str | None,
) -> int:
    """Repeat the execution of a saved schedule, step by step.

    Code that does not come with emu is loaded only if you name it: the scenario
    as a second argument, the revision as -p revision=PATH.
    """
    from emu.analysis.cycles import CYCLES, read_cycles
    from emu.reports.run import RunReport
    from emu.running.replay import Replay
    from emu.running.witnessed import is_witnessed, with_witness

    cycles = read_cycles(cycles_path) if cycles_path else CYCLES
    with open_log(log_path) as log:
        repeated = Replay.of(schedule, scenario, parse_parameters(parameters))
        for remark in repeated.changes():
            click.echo(f"emu: {remark}", err=True)
        run = repeated.run(host)
        if witness:
            repeated = with_witness(repeated, run)
            schedule = write_schedule(repeated.saved, Path())
            run = repeated.run(host)
            if not is_witnessed(repeated, run):
                click.echo("emu: the device got another translation: its IOTLB holds the old one no more", err=True)
        report = RunReport(run, repeated.named, repeated.command(schedule), cycles, repeated.saved.about)
        if log is not None:
            report.write_log(log)
    if run.failure is not None:
        raise run.failure
    if as_json:
        show_json(report)
    else:
        show_text(report)
    return EMULATOR_BUG if run.has_emulator_bug else STATUS[run.verdict.value]
