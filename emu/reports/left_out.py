"""What the model leaves out: each sentence that says "proved" says this, too.

docs/what-proved-means.md explains each item.
"""

LEFT_OUT = (
    "device-TLBs",
    "peer-to-peer accesses",
    "invalidations wider than asked",
    "first-stage tables",
    "interrupts",
)


def left_out_clause() -> str:
    """Return what the model leaves out, as the end of a sentence."""
    return f"; not modelled: {', '.join(LEFT_OUT)}"
