"""AMD-Vi (the AMD IOMMU) with host translation: device table, page-table caches and the command buffer.

formats.py       entries and commands, bit for bit
settings.py      capabilities, and what makes the model smaller
queue.py         the command buffer
device_table.py  the device table and its entries; emu/iommus/device_entries.py has their cache
state.py         what a unit holds
walk.py          reading a device table entry; emu/iommus/unit_by_entry.py has the rest of the walk
engine.py        the agent that executes commands
unit.py          a unit, made of these

Sections refer to the AMD I/O Virtualization Technology (IOMMU) Specification, publication 48882.
"""
