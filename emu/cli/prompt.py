"""The prompt of `emu replay --step`. Its commands move a stepped replay and show it; the reports say what is shown."""

import cmd
import sys
from collections.abc import Iterable

from emu.cli.debugger import debug, show_if_piped, suspended_frames
from emu.cli.ending import interrupts_noted
from emu.cli.output import show_paragraph
from emu.cli.terminal import wants_colors
from emu.errors import ScenarioError, did_you_mean, printable
from emu.reports.breaks import Break, Names
from emu.reports.filters import number
from emu.reports.log import write_console
from emu.reports.stepping import (
    agent_lines,
    latest_records,
    lock_lines,
    news,
    owed_lines,
    position,
    promise_lines,
    records_from,
    sentences,
)
from emu.reports.translations import domain_of, iotlb_lines, table_lines, unit_of
from emu.running.stepping import Stepping
from emu.units import Dfn

COMMANDS = {
    "next": ("n[ext] [N]", "take the next step, or N steps"),
    "back": ("b[ack] [N]", "go back a step, or N steps, by running again from the start"),
    "to": ("t[o] STEP", "go to the state after a step, forwards or back"),
    "continue": ("c[ontinue]", "go on to the next break, or to the end"),
    "break": ("br[eak] [EVENT [K=V]...]", "stop after such a step (br iotlb.fill dfn=0x40); show the breaks"),
    "delete": ("d[elete] [N]", "delete break N, or all"),
    "agents": ("a[gents]", "what each agent does next (> goes first), and who holds which lock"),
    "tables": ("ta[bles] DOMAIN DFN", "the entries that lead to a page, and what units may use"),
    "iotlb": ("i[otlb] [UNIT]", "what a unit has cached"),
    "owed": ("o[wed]", "the calls that have left their flush to a later one"),
    "promises": ("p[romises]", "what calls have promised to be gone"),
    "log": ("l[og] [N]", "the events of the last 10 steps, or N"),
    "finding": ("f[inding]", "what the checks have reported so far"),
    "pdb": ("pd[b] [AGENT]", "Python's debugger in the agent that goes next, or in another"),
    "help": ("h[elp]", "this list; an empty line does the last command again"),
    "quit": ("q[uit]", "leave"),
}
"""How each command is written, shortened or not, and what it does. A shortened word is the first that begins so."""

CONTEXT = 5
"""How many steps are shown where a replay stops."""

LOG_STEPS = 10
HELP_WIDTH = 24


class Prompt(cmd.Cmd):
    """Reads commands from stdin, and prints to stdout."""

    def __init__(self, stepping: Stepping, names: Names, breaks: Iterable[Break]) -> None:
        super().__init__()
        self.stepping = stepping
        self.names = names
        self.breaks = dict(enumerate(breaks, 1))

    def preloop(self) -> None:
        """Name the present step in the prompt."""
        self.prompt = f"step {self.stepping.step}> "

    def precmd(self, line: str) -> str:
        """Show the line if it was not typed."""
        show_if_piped(line)
        return line

    def onecmd(self, line: str) -> bool:
        """Do what a line says, and return whether to leave; a mistake is told in a sentence."""
        if line == "EOF":
            return True
        if not line.split():
            return self.onecmd(self.lastcmd) if self.lastcmd else False
        word, *rest = line.split(maxsplit=1)
        command = next((one for one in COMMANDS if one.startswith(word)), None)
        if command is None:
            show(f"no command is named {word!r}{did_you_mean(word, COMMANDS)}: help lists the commands")
            return False
        self.lastcmd = line
        try:
            getattr(self, f"do_{command}")("".join(rest).strip())
        except ScenarioError as error:
            show(str(error))
        self.preloop()
        return command == "quit"

    def do_next(self, text: str) -> None:
        """Take steps, and show each."""
        self.move(how_many(text, 1), shows_each=True)
        if self.stepping.run.failure is not None:
            self.show_log(self.stepping.step)
        self.show_agents()

    def do_back(self, text: str) -> None:
        """Go back."""
        self.go_to(max(0, self.stepping.step - how_many(text, 1)))

    def do_to(self, text: str) -> None:
        """Go to a step.

        Raises:
            ScenarioError: if the replay has no such step.
        """
        step = number(text, "to") if text else -1
        if not 0 <= step <= self.stepping.steps:
            raise ScenarioError(f"to takes the number of a step, from 0 to {self.stepping.steps}, not {text!r}")
        self.go_to(step)

    def go_to(self, step: int) -> None:
        """Go to the state after a step; only on the way forwards tell what the checks report."""
        if step > self.stepping.step:
            self.move(step - self.stepping.step)
        else:
            with interrupts_noted() as is_interrupted:
                self.stepping.go_to(step, is_interrupted)
        self.show_state()

    def do_continue(self, _: str = "") -> None:
        """Go on to the next break."""
        self.move(None, stops=True)
        self.show_state()

    def move(self, steps: int | None, *, stops: bool = False, shows_each: bool = False) -> None:
        """Take so many steps, or all that are left, and tell what the checks report.

        Args:
            stops: stop at a break.
            shows_each: show each step.
        """

        def is_enough() -> bool:
            if shows_each and not self.stepping.has_ended:
                self.show_log(self.stepping.step)
            self.show_new()
            return (stops and self.is_at_break()) or is_interrupted()

        with interrupts_noted() as is_interrupted:
            self.stepping.advance(steps, is_enough)

    def go_to_break(self) -> None:
        """Go to the first break, which may be where the replay stands."""
        if self.is_at_break():
            self.show_state()
        else:
            self.do_continue()

    def is_at_break(self) -> bool:
        """Whether the latest step is one to stop at, which is told."""
        records = list(latest_records(self.stepping)) if self.breaks else []
        hit = [key for key, one in self.breaks.items() if one.is_hit(records)]
        for key in hit:
            show(f"break {key} after step {self.stepping.step}: {self.breaks[key].text}")
        return bool(hit)

    def show_state(self) -> None:
        """Show the latest steps, and what comes next."""
        self.show_log(self.stepping.step - CONTEXT + 1)
        self.show_agents()

    def show_log(self, first: int) -> None:
        """Show a step and those after it, as the log shows them."""
        write_console(records_from(self.stepping, first), sys.stdout, colors=wants_colors(sys.stdout))

    def show_new(self) -> None:
        """Tell what the checks have reported after the latest step."""
        for sentence in news(self.stepping):
            show_paragraph(sentence, fg="red", bold=True)

    def show_agents(self) -> None:
        """Show where the replay stands, and what the agents do next."""
        show(position(self.stepping))
        if not self.stepping.has_ended:
            show(*agent_lines(self.stepping))

    def do_break(self, text: str) -> None:
        """Add a break, or show the breaks."""
        if text:
            self.breaks[max(self.breaks, default=0) + 1] = Break.parse(text, self.names)
        show(*(f"{key}: {one.text}" for key, one in self.breaks.items()), otherwise="there is no break")

    def do_delete(self, text: str) -> None:
        """Delete breaks.

        Raises:
            ScenarioError: if there is no such break.
        """
        key = number(text, "delete") if text else None
        if key is not None and key not in self.breaks:
            raise ScenarioError(f"there is no break {key}: br shows the breaks")
        self.breaks = {} if key is None else {one: self.breaks[one] for one in self.breaks if one != key}
        self.do_break("")

    def do_agents(self, _: str) -> None:
        """Show the agents and the locks."""
        self.show_agents()
        show(*lock_lines(self.stepping), otherwise="no lock is held")

    def do_tables(self, text: str) -> None:
        """Show the entries that lead to a page.

        Raises:
            ScenarioError: for anything but a domain and a page of it.
        """
        numbers = [number(word, "tables") for word in text.split()]
        if len(numbers) != 2:
            raise ScenarioError("tables takes the number of a domain and a dfn: tables 1 0x1000")
        machine = self.stepping.machine
        show(*table_lines(machine, domain_of(machine, numbers[0]), Dfn(numbers[1])))

    def do_iotlb(self, text: str) -> None:
        """Show what a unit has cached."""
        machine = self.stepping.machine
        for unit in [unit_of(machine, text)] if text else machine.units:
            show(*iotlb_lines(machine, unit))

    def do_owed(self, _: str) -> None:
        """Show the debts."""
        show(*owed_lines(self.stepping), otherwise="no call has left its flush to a later one")

    def do_promises(self, _: str) -> None:
        """Show the promises."""
        show(*promise_lines(self.stepping), otherwise="no call has promised anything yet")

    def do_log(self, text: str) -> None:
        """Show the latest steps."""
        self.show_log(self.stepping.step - how_many(text, LOG_STEPS) + 1)

    def do_finding(self, _: str) -> None:
        """Show all that the checks have reported."""
        found = sentences(self.stepping, self.stepping.findings)
        show(*found, otherwise=f"no check has reported anything up to step {self.stepping.step}")

    def do_pdb(self, text: str) -> None:
        """Look at an agent.

        Raises:
            ScenarioError: if there is no such agent, or it has no frame.
        """
        agents = {agent.name: agent for agent in self.stepping.agents}
        agent = agents.get(text) if text else self.stepping.upcoming
        if agent is None:
            said = f"no agent is named {text!r}{did_you_mean(text, agents)}" if text else "no agent goes next"
            raise ScenarioError(f"{said}: name one of {', '.join(agents)}")
        suspended = suspended_frames(agent)
        if not suspended:
            raise ScenarioError(f"{agent.name} has ended, and has no frame: go back to where it has one")
        show(f"pdb looks at {agent.name}: w shows its frames, q leaves pdb and goes on in emu")
        debug(suspended)

    def go_to_finding(self) -> None:
        """Look at the agent that takes the step after which a check reports the first finding, or a mistake shows.

        Of a deadlock no step is to blame: look at the first agent that waits.
        """
        stepping = self.stepping
        with interrupts_noted() as is_interrupted:
            if not stepping.new:
                stepping.advance(None, lambda: bool(stepping.new) or is_interrupted())
        self.show_new()
        show(position(stepping))
        if not stepping.step or not (stepping.new or stepping.run.failure):
            return
        deadlock = stepping.execution.deadlock if stepping.has_ended else None
        stepping.go_to(stepping.step - (deadlock is None))
        self.show_state()
        self.onecmd("pdb" if deadlock is None else f"pdb {deadlock.waiters[0].agent}")

    def do_help(self, arg: str) -> None:
        """List the commands."""
        for usage, what in COMMANDS.values():
            show(f"{usage:<{HELP_WIDTH}} {what}", indent=" " * (HELP_WIDTH + 1))

    def do_quit(self, _: str) -> None:
        """Leave: `onecmd` does."""


def show(*lines: str, indent: str = "    ", otherwise: str = "") -> None:
    """Print lines, each filled to the width of the terminal, or another line if there is none."""
    for line in lines or (otherwise,):
        if line:
            show_paragraph(printable(line), indent)


def how_many(text: str, default: int) -> int:
    """Return the number of steps that a user has written.

    Raises:
        ScenarioError: if it is not positive.
    """
    steps = number(text, "the number of steps") if text else default
    if steps <= 0:
        raise ScenarioError(f"the number of steps begins at 1, and is not {steps}")
    return steps
