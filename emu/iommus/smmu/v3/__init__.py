"""Arm SMMUv3 with stage-2 translation: stream table, configuration cache, TLB and command queue.

formats.py       stream table entries and commands, bit for bit
settings.py      what a unit can do, and what makes its model smaller
queue.py         the command queue
stream_table.py  the stream table and its entries; emu/iommus/device_entries.py has their cache
state.py         what a unit holds
walk.py          reading a stream table entry; emu/iommus/unit_by_entry.py has the rest of the walk
engine.py        the agent that executes commands
unit.py          a unit, made of these

The descriptors of tables are those of the SMMUv2 (emu/iommus/smmu/formats.py). Chapters refer to the Arm System Memory
Management Unit Architecture Specification, version 3 (IHI 0070).
"""
