"""A scenario's claims: a predicate, and the shared objects that it reads, as a user names them."""

import inspect
from collections.abc import Iterable
from typing import Any

from emu.cpus import Cpu, PerCpu
from emu.engine import Access, Kind, Variable
from emu.engine.claims import Claim, Predicate, When, async_claim
from emu.errors import ScenarioError
from emu.hypervisor.bitmaps import Bitmap
from emu.memory import WORDS, check_alignment, word_number

Read = int | Variable[Any] | tuple[PerCpu[Any], int | Cpu] | Bitmap | Access
"""The address of a word of memory, a variable, a per-CPU variable with its CPU, a bitmap, or any access."""


def add_claim(claims: list[Claim], text: str, predicate: Predicate, when: When, reads: Iterable[Read] = ()) -> None:
    """Add a claim to others.

    Raises:
        ScenarioError: if the text is empty or another claim's, or the predicate takes arguments or would take steps.
    """
    if any(other.text == text for other in claims):
        raise ScenarioError(f"there is a claim {text!r} already: give each a text of its own")
    if not text:
        raise ScenarioError("a claim says nothing: give it a text, and then its predicate")
    if not callable(predicate):
        raise ScenarioError(f"the claim {text!r} has {predicate!r} for a predicate: write lambda: ..., or a function")
    if inspect.iscoroutinefunction(predicate):
        raise async_claim(text, predicate)
    try:
        inspect.signature(predicate).bind()
    except TypeError as error:
        raise ScenarioError(f"the predicate of the claim {text!r} is called without arguments: {error}") from error
    except ValueError:  # a function of C, which tells nothing of its arguments
        pass
    claims.append(Claim(text, predicate, when, accesses_of(text, reads)))


def accesses_of(text: str, reads: Iterable[Read]) -> tuple[Access, ...]:
    """Return the accesses that a claim makes.

    Raises:
        ScenarioError: if `reads` is no list of objects.
    """
    if isinstance(reads, Access | Bitmap | Variable | PerCpu | str) or not isinstance(reads, Iterable):
        raise ScenarioError(f"the claim {text!r} has reads={reads!r}, which is no list: write reads=[...]")
    return tuple(access_of(text, one) for one in reads)


def access_of(text: str, one: Read) -> Access:
    """Return the access by which a claim reads an object.

    Raises:
        ScenarioError: if a claim cannot read it.
    """
    match one:
        case Access():
            return one._replace(kind=Kind.READ)
        case Variable():
            return one.reading[0]
        case Bitmap():
            return Access.to(one.space, 0, Kind.READ)
        case PerCpu() as variable, (Cpu(number=number) | int(number)):
            return Access.to(variable.space, number, Kind.READ)
        case int() if not isinstance(one, bool):
            check_alignment(one, 1)
            return Access.to(WORDS, word_number(one), Kind.READ)
    raise ScenarioError(
        f"the claim {text!r} cannot read {one!r}: name the address of a word, a Variable, a pair of a PerCpu and the "
        "number of its CPU, a Bitmap, or an Access"
    )
