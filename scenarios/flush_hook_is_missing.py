"""D3 on AMD-Vi: until cbe21fd047 its driver had no hooks to flush, and the error path of v1 calls one all the same."""

from emu import ENOMEM, Cpu, Dfn, Machine, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Hooks that flush what they change need no other; those of merged leave it to a hook that is not there.
    parameters    | implicit | v1        | merged | flush_on_error
    hook_faults>0 | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    missing=false | clean    | lost-error | clean | clean
    -             | clean    | assertion | stale  | stale
    """,
    sequential=True,
    only={"amd": "the driver of VT-d always had these hooks"},
)
def flush_hook_is_missing(m: Machine, *, missing: bool = True) -> None:
    """A map of two pages fails on the second, and is rolled back.

    missing: the driver has neither flush hook.
    """
    if missing:
        m.hooks.missing |= {"iotlb_flush", "iotlb_flush_all"}
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1)
    m.fail_hook("map_page", offset(G, 1), ENOMEM)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, Dfn(G), frames, page_order=1)
