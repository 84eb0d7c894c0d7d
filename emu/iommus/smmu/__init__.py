"""Arm SMMUv2 with stage-2 translation: stream mapping, context banks, and TLB invalidation by registers.

v3/              the SMMUv3, which has the same tables
formats.py       descriptors of tables and fields of registers, bit for bit
settings.py      what a unit can do, and what makes its model smaller
registers.py     the registers that say which tables translate for a stream
queue.py         the registers by which software asks for invalidations and waits for them
state.py         what a unit holds
walk.py          the walk: stream mapping and context bank, cached translation, page tables
engine.py        the agent that executes invalidations
unit.py          a unit, made of these

Chapters refer to the Arm System Memory Management Unit Architecture Specification, version 2.0 (IHI 0062), and to the
Arm Architecture Reference Manual (DDI 0487), chapter D8, for the tables.
"""
