"""Python's debugger in an agent that is suspended: its frames are those of its coroutine and of what it awaits."""

import pdb  # noqa: T100 - emu offers it to the user
import sys
from bdb import BdbQuit
from contextlib import suppress
from types import FrameType, TracebackType

from emu.analysis.source_lines import is_in_revision
from emu.engine import Agent
from emu.engine.sources import frames, is_users, location_of


class AgentPdb(pdb.Pdb):
    """The debugger for an agent. It begins in the innermost frame of the user's scenario or revision."""

    def __init__(self, suspended: list[FrameType]) -> None:
        super().__init__(nosigint=True, readrc=False)
        self.suspended = suspended

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        """Return the frames of the agent, the outermost first, and the number of the one to begin in."""
        users = [number for number, frame in enumerate(self.suspended) if is_of_user(frame)]
        stack = [(frame, frame.f_lineno) for frame in self.suspended]
        return stack, users[-1] if users else len(stack) - 1

    def precmd(self, line: str) -> str:
        """Show the line if it was not typed: what follows is the answer to it."""
        show_if_piped(line)
        return super().precmd(line)


def is_of_user(frame: FrameType) -> bool:
    """Whether a frame runs a scenario, or a revision of the wrappers."""
    location = location_of(frame)
    return is_users(location) or is_in_revision(location)


def suspended_frames(agent: Agent) -> list[FrameType]:
    """Return the frames of an agent, the outermost first; none if it has ended."""
    return [] if agent.coroutine is None else list(frames(agent.coroutine))


def debug(suspended: list[FrameType]) -> None:
    """Let the user look at the frames of a suspended agent."""
    debugger = AgentPdb(suspended)
    debugger.reset()
    with suppress(BdbQuit, pdb.Restart):
        debugger.interaction(suspended[-1], None)


def show_if_piped(line: str) -> None:
    """Print a line of input behind its prompt, where no terminal has shown it."""
    if not sys.stdin.isatty():
        print("" if line == "EOF" else line)  # noqa: T201 - where the prompt was printed
