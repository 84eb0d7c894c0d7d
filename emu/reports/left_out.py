"""What the model leaves out: whatever says "proved" says this in the same breath.

docs/what-proved-means.md explains each item.
"""

LEFT_OUT = (
    "device-TLBs",
    "peer-to-peer accesses",
    "invalidations wider than asked",
    "superpages",
    "first-stage tables",
    "interrupts",
)


def left_out_clause() -> str:
    """Return what a proof is not about, as the end of a sentence."""
    return f"; not modelled: {', '.join(LEFT_OUT)}"
