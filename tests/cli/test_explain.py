"""`emu explain`: kinds of findings, events and keys, and words that are none."""

import json
import shlex
from collections.abc import Callable

import pytest

from emu.checks.kinds import FindingKind
from emu.reports.vocabulary import EVENTS, KEYS

Emu = Callable[..., tuple[int, str, str]]


def test_without_a_word_all_are_listed_with_their_meanings(emu: Emu) -> None:
    status, out, _ = emu("explain", "--json")
    meanings = {(one["sort"], one["name"]): one["means"] for one in json.loads(out)["words"]}
    assert status == 0
    assert meanings == {
        **{("kind of finding", kind.value): kind.meaning for kind in FindingKind},
        **{("event", name): means for name, means in EVENTS.items()},
        **{("key", name): means for name, means in KEYS.items()},
    }
    text = " ".join(emu("explain")[1].split())
    assert all(f"{name} {means}" in text for (_, name), means in meanings.items())


@pytest.mark.parametrize("kind", [kind for kind in FindingKind if kind is not FindingKind.ILLEGAL])
def test_a_kind_has_its_promise_breach_harm_race_and_command(emu: Emu, kind: FindingKind) -> None:
    (told,) = (one for one in json.loads(emu("explain", kind.value, "--json")[1])["words"] if "race" in one)
    assert all(told[fact] for fact in ("promised", "broken_by", "harm"))
    assert 2 <= len(told["race"]) <= 5
    assert f"  {told['shown_by']}\n" in emu("explain", kind.value)[1]


def test_the_command_of_a_kind_shows_it(emu: Emu) -> None:
    (told,) = json.loads(emu("explain", "deadlock", "--json")[1])["words"]
    program, *arguments = shlex.split(told["shown_by"])
    status, out, _ = emu(*arguments)
    assert (program, status) == ("emu", 0)
    assert "declares deadlock: shown" in out


@pytest.mark.parametrize("word", ["iotlb.fill", "queue.drop", "evicted_dfn"])
def test_the_commands_of_an_event_or_a_key_show_it(emu: Emu, word: str) -> None:
    (told,) = json.loads(emu("explain", word, "--json")[1])["words"]
    emu(*shlex.split(told["seen_in"])[1:])
    status, out, _ = emu(*shlex.split(told["log"])[1:], "--json")
    assert status == 0
    assert f'"{word}"' in out


def test_a_word_with_two_meanings_has_both(emu: Emu) -> None:
    out = emu("explain", "owed")[1]
    assert "owed: kind of finding\n" in out
    assert "owed: key\n" in out


@pytest.mark.parametrize("word", [*(kind.value for kind in FindingKind), "iotlb.fill", "walk.void", "agent", "step"])
def test_an_explanation_fits_80_columns_but_for_commands(emu: Emu, word: str) -> None:
    status, out, err = emu("explain", word)
    assert (status, err) == (0, "")
    assert [line for line in out.splitlines() if len(line) > 80 and " emu " not in line] == []
    assert all(len(line) <= 80 for line in emu("explain")[1].splitlines())


@pytest.mark.parametrize(
    ("word", "meant"), [("stael", "'stale'"), ("iotlb.fil", "'iotlb.fill'"), ("mfm", "'mfn'"), ("x\x1b[31m", "")]
)
def test_an_unknown_word_is_answered_with_the_one_that_is_meant(emu: Emu, word: str, meant: str) -> None:
    status, out, err = emu("explain", word)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"did you mean {meant}" in err or not meant
    assert "\x1b" not in err
