"""Intel VT-d in legacy mode: second-level translation, context cache, IOTLB and queued invalidation.

formats.py       entries and descriptors, bit for bit
settings.py      capabilities, and what makes the model smaller
queue.py         the invalidation queue
write_buffer.py  flushing the chipset's write buffer by a unit's registers
contexts.py      the context cache
state.py         what a unit holds
walk.py          the walk: context entry, then page tables
invalidation.py  the invalidation of cached context entries
engine.py        the agent that executes descriptors
unit.py          a unit, made of these

Sections refer to the Intel Virtualization Technology for Directed I/O specification, revision 5.10.
"""
