"""Findings in words, one sentence each, and as JSON data."""

from typing import Any

import attrs
import cattrs

from emu.analysis.explanations import explain
from emu.analysis.source_lines import line_of_caller
from emu.checks.details import Act
from emu.checks.findings import (
    Asserted,
    BeyondRange,
    Finding,
    ForeignAccess,
    FreedTable,
    Gap,
    Illegal,
    Late,
    LateStatus,
    LostError,
    NoBreak,
    NotIsolated,
    NotRolledBack,
    Overrun,
    Owed,
    Released,
    Stale,
    StaleAssignment,
    Stuck,
    Torn,
    WrongResult,
)
from emu.engine import Trace
from emu.engine.claims import When
from emu.hypervisor.ops import RESULT_NAMES
from emu.hypervisor.pages import VERBS
from emu.iommus.formats import Mapping
from emu.reports.counts import count
from emu.reports.stale import PERMITTED, at, stale_data, stale_sentence


def sentence(finding: Finding, trace: Trace) -> str:
    """Return a finding as one sentence."""
    match finding:
        case Stale() | Owed() | Released():
            return stale_sentence(finding, explain(finding, trace), trace)
        case LostError() | NotRolledBack() | WrongResult() | BeyondRange() | Gap():
            return result_sentence(finding) + at(line_of_caller(trace, finding.step))
        case Stuck(deadlock=deadlock):
            waits = "; ".join(
                f"{one.agent} waits for {one.waits_for} since step {one.since}"
                + (f", held by {one.holder} since step {one.held_since}" if one.holder else "")
                for one in deadlock.waiters
            )
            return f"deadlock at step {deadlock.step}: {waits}"
        case Asserted():
            return claim_sentence(finding, line_of_claim(finding, trace))
        case StaleAssignment() | NotIsolated() | Overrun() | FreedTable() | Torn() | NoBreak():
            return act_sentence(finding, trace) + at(line_of_caller(trace, finding.step))
        case Late() | LateStatus() | ForeignAccess() | Illegal():
            return access_sentence(finding, trace)


def act_sentence(finding: StaleAssignment | NotIsolated | Overrun | FreedTable | Torn | NoBreak, trace: Trace) -> str:
    """Say which act of an agent was wrong."""
    if isinstance(finding, StaleAssignment):
        return assignment_sentence(finding)
    if isinstance(finding, Torn):
        return torn_sentence(finding)
    if isinstance(finding, NoBreak):
        return break_sentence(finding)
    return isolation_sentence(finding) if isinstance(finding, NotIsolated) else access_sentence(finding, trace)


def assignment_sentence(finding: StaleAssignment) -> str:
    """Say by which tables a device may still be translated, why it may be refused, or that it is let through."""
    what, harm = harm_of(finding)
    when = f"when device {finding.device} was {given_to(finding)} at step {finding.step}"
    return f"{what} (possible): {when}, {finding.unit} could {harm}"


def given_to(finding: StaleAssignment) -> str:
    """Say where a device went."""
    return "taken away" if finding.joined is None else f"given to domain {finding.joined}"


def harm_of(finding: StaleAssignment) -> tuple[str, str]:
    """Return the name of a finding about an assignment, and what the unit could do."""
    if finding.is_untranslated:
        return "not isolated", "let its requests through untranslated, to all memory"
    if finding.revived is not None:
        made = finding.revived
        promise = f"which {made.agent}'s {made.call} had promised at step {made.step} to be gone"
        return "stale translation", f"use an old translation of dfn {made.dfn:#x} for it, {promise}"
    if finding.left is None:
        refuses = "still refuse its requests, for it may have cached a device entry that refuses them"
        return "stale fault", refuses
    return "stale translation", f"still translate for it by the tables of domain {finding.left}, which it has left"


def access_sentence(finding: Overrun | FreedTable | Late | LateStatus | ForeignAccess | Illegal, trace: Trace) -> str:
    """Say which access was wrong."""
    match finding:
        case Overrun():
            entries = count(finding.count, "entry", "entries")
            return f"overrun: at step {finding.step} {finding.agent} had stored {entries} in {finding.array}"
        case FreedTable():
            table = "to which a page table led that was freed and then used by somebody else"
            if finding.freed is not None:
                table = f"a page table that {finding.freed[0]} had freed at step {finding.freed[1]}"
            return (
                f"freed table: at step {finding.step} {finding.agent} stored an entry for domain {finding.domain} dfn "
                f"{finding.dfn:#x} into mfn {finding.frame:#x}, {table}"
            )
        case Late():
            access = "wrote to" if finding.is_write else "read"
            return (
                f"late access: at step {finding.step} device {finding.device} {access} mfn {finding.frame:#x}: "
                f"{finding.unit} had translated domain {finding.domain} dfn {finding.dfn:#x} to it before an "
                f"invalidation that did not drain this access; {finding.agent}'s {finding.call} had promised at step "
                f"{finding.promised} that this translation was gone"
            )
        case LateStatus():
            return status_sentence(finding)
        case ForeignAccess():
            return (
                f"foreign access: at step {finding.step} device {finding.device} accessed mfn {finding.frame:#x} of "
                f"domain {finding.domain}, through that domain's dfn {finding.dfn:#x} at {finding.unit}: "
                f"{programmed(finding, trace)}"
            )
        case Illegal():
            return (
                f"illegal translation: at step {finding.step} device {finding.device} used leaf {finding.leaf:#x} of "
                f"dfn {finding.dfn:#x} at {finding.unit}, which the ledger forbids; this is a bug of emu, please "
                "report it with the command that showed it"
            )


def programmed(finding: ForeignAccess, trace: Trace) -> str:
    """Name the domain that had programmed an access, and the domain that had the device at the access."""
    given = [
        event.fields["domain"]
        for event in trace.events()
        if event.name == "device.hand_over" and event.fields["bdf"] == finding.device and event.step < finding.step
    ]
    owner = given[-1] if given else finding.programmed_by
    if owner == finding.programmed_by:
        return f"domain {owner}, which had the device then, had programmed the access"
    lost = f"domain {finding.programmed_by} had programmed the access before the device "
    return lost + ("was taken away" if owner is None else f"went to domain {owner}")


def status_sentence(finding: LateStatus) -> str:
    """Say where a unit wrote a status word, and when that frame had been freed."""
    owner = "is still free" if finding.owner is None else f"belongs to domain {finding.owner} now"
    return (
        f"late access: at step {finding.step} {finding.unit} wrote the status of a wait, posted at step "
        f"{finding.asked}, to {finding.address:#x} in mfn {finding.frame:#x}, which {finding.agent} had freed at step "
        f"{finding.freed} and which {owner}"
    )


def torn_sentence(finding: Torn) -> str:
    """Say what a walk could find between the two stores of an entry, and from which stores it was composed."""
    old, composed, new = (f"{word:#x}" for word in finding.words)
    use = f"; device {finding.use.device} used it at step {finding.use.step}" if finding.use else ""
    return (
        f"torn entry ({finding.evidence.value}): {finding.agent} replaced the entry of domain {finding.domain} dfn "
        f"{finding.dfn:#x} in two stores, at steps {finding.steps[0]} and {finding.steps[1]}; between them walks of "
        f"{finding.unit} found {composed}, which leads to mfn {finding.frame:#x}: one half of {old} and one of "
        f"{new}{use}"
    )


def break_sentence(finding: NoBreak) -> str:
    """Say which entry took the place of another one, and who could still use that."""
    old, new = (f"{word:#x}" for word in finding.words)
    return (
        f"no break: at step {finding.step} {finding.agent} stored {new} for domain {finding.domain} dfn "
        f"{finding.dfn:#x} in the place of {old}, which {walker(finding)} could still use"
    )


def walker(finding: NoBreak) -> str:
    """Name what could still use an entry."""
    return finding.unit or "CPUs"


def isolation_sentence(finding: NotIsolated) -> str:
    """Name the agent that let a frame be reached, or reached it, and say why that is forbidden."""
    page, frame = f"dfn {finding.dfn:#x}", f"mfn {finding.frame:#x}"
    if finding.domain is not None:
        page = f"domain {finding.domain} {page}"
    match finding.act:
        case Act.MAP:
            done = f"{finding.agent} mapped {frame} at {page}, for {finding.unit} to translate"
        case Act.WITHDRAW:
            done = f"{finding.agent} ended the right of domain {finding.domain} to map {frame}"
        case Act.ATTACH:
            done = f"{finding.agent} gave domain {finding.domain} a device, for which {finding.unit} finds {frame}"
        case Act.ACCESS:
            done = f"device {finding.agent} accessed {frame}, at {page} through {finding.unit}"
    use = ""
    if finding.use and finding.act is not Act.ACCESS:
        use = f", and device {finding.use.device} accessed it at step {finding.use.step}"
    return f"not isolated ({finding.evidence.value}): at step {finding.step} {done}{use}, although {reason(finding)}"


def reason(finding: NotIsolated) -> str:
    """Say why a frame must not be in reach."""
    if finding.is_table:
        return "it is a page table" if finding.owner is None else f"it is a page table of domain {finding.owner}"
    if finding.act is Act.WITHDRAW:
        return f"{finding.unit} could still translate domain {finding.domain} dfn {finding.dfn:#x} to it"
    if finding.domain is None:
        return f"it belongs to domain {finding.owner}, and {finding.unit} let the access through untranslated"
    verbs = " and ".join(verb for verb, flag in VERBS.items() if flag in finding.allowed)
    what = f"may only {verbs} it" if verbs else "may not map it"
    return f"it belongs to domain {finding.owner}, and domain {finding.domain} {what}"


def claim_sentence(finding: Asserted, source: str | None) -> str:
    """Say which claim does not hold, and when."""
    moment = f"after step {finding.step}" if finding.step else "before the first step"
    if finding.when is When.ASSERTED:
        return f"assertion: {moment} {finding.claim!r} does not hold, which {finding.agent} asserts{at(source)}"
    if finding.when is When.FINALLY:
        moment = f"at the end, {moment},"
    elif finding.step:
        moment += f" of {finding.agent}{at(source)}"
    return f"assertion: {moment} {finding.claim!r} does not hold, and has to hold {finding.when.value}"


def line_of_claim(finding: Asserted, trace: Trace) -> str | None:
    """Return the line of an assertion; for a claim, the scenario's line whose step broke it."""
    return finding.source or line_of_caller(trace, finding.step)


def result_sentence(finding: LostError | NotRolledBack | WrongResult | BeyondRange | Gap) -> str:
    """Say which failure a call's result hides, or which of its changes is wrong."""
    call = call_of(finding)
    match finding:
        case LostError(failure=failure):
            return (
                f"lost error: {call} {'returned success' if finding.has_result else 'returned and logged nothing'} at "
                f"step {finding.step}, although hook {failure.hook} had failed with {result_name(failure.result)} on "
                f"{f'dfn {failure.dfn:#x}' if failure.page_count else 'the whole domain'} after step {failure.step}"
            )
        case NotRolledBack():
            return (
                f"not rolled back: {call} returned {result_name(finding.result)} at step {finding.step}, and left dfn "
                f"{finding.page:#x} mapped"
            )
        case WrongResult():
            wanted = f"the page should be {mapping(finding.asked)}"
            return (
                f"wrong result: {call} returned success at step {finding.step}; nothing had failed, and it "
                f"{left(finding)}; {wanted}"
            )
        case BeyondRange():
            return beyond_sentence(finding, call)
        case Gap():
            return (
                f"gap: {call} returned at step {finding.step}, and had mapped dfn {finding.page:#x} again, which was "
                f"mapped before and unmapped since step {finding.cleared}; a device that used it meanwhile was refused"
            )


def call_of(finding: LostError | NotRolledBack | WrongResult | BeyondRange | Gap) -> str:
    """Name a call with its CPU and its range."""
    return f"{finding.agent}'s {call_text(str(finding.call), finding.domain, finding.dfn, finding.page_count)}"


def call_text(call: str, domain: int, dfn: int, page_count: int) -> str:
    """Name a call by its wrapper and its range."""
    pages = f", {count(page_count, 'page')}" if page_count > 1 else ""
    return f"{call} of domain {domain} dfn {dfn:#x}{pages}"


def left(finding: WrongResult) -> str:
    """Say how a call left a page mapped."""
    if finding.left is None:
        return f"had neither read nor stored the entry of dfn {finding.page:#x}"
    return f"had left dfn {finding.page:#x} {mapping(finding.left)}"


def mapping(mapped: Mapping) -> str:
    """Say to which frame a page is mapped, and with which permissions."""
    if mapped.frame is None:
        return "unmapped"
    return f"mapped to mfn {mapped.frame:#x} to {PERMITTED[mapped.read, mapped.write]}"


def beyond_sentence(finding: BeyondRange, call: str) -> str:
    """Name the page that an agent changed without a call for it."""
    page = f"what domain {finding.page_domain} maps at dfn {finding.page:#x}"
    if finding.call is None:
        return f"beyond range: at step {finding.step} {finding.agent} changed {page}, outside of any call"
    return f"beyond range: at step {finding.step} {call} changed {page}, which is outside of that range"


def result_name(result: int) -> str:
    """Return the name of a result, such as -ENOMEM."""
    return RESULT_NAMES.get(result, str(result))


def data(finding: Finding, trace: Trace) -> dict[str, Any]:
    """Return a finding as JSON data, with its sentence."""
    if isinstance(finding, Stale | Owed | Released):
        why = explain(finding, trace)
        message, facts = stale_sentence(finding, why, trace), stale_data(finding, why, trace)
    elif isinstance(finding, Asserted):
        source = line_of_claim(finding, trace)
        message, facts = claim_sentence(finding, source), cattrs.unstructure(attrs.evolve(finding, source=source))
    else:
        message, facts = sentence(finding, trace), cattrs.unstructure(finding)
    if isinstance(finding, WrongResult):
        facts["left"], facts["asked"] = finding.left and finding.left._asdict(), finding.asked._asdict()
    if isinstance(finding, NotIsolated | Torn):
        facts["evidence"] = finding.evidence.value
    return {"kind": finding.kind.value, "message": message, **facts}
