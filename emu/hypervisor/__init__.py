"""Software: domains, the wrappers that map, unmap and flush, and the driver behind them.

ops.py          result codes, flush types, permissions, and the hooks of a driver
domain.py       a domain; the locks that guard its tables
calls.py        map, unmap, flush and flush_all as callers call them, each with a record that the checks judge
boot_calls.py   the calls that fill a domain's tables: at boot, and for a domain's first device
boot.py         the options and the memory map by which the hardware domain's tables are filled
page_list.py    a domain's pages: their lists, guest frame numbers and types
console.py      Xen's console
teardown.py     giving up a domain's tables after an error
records.py      the stores of one call, and its failed hooks
hooks.py        a driver's hooks with faults injected and results recorded
returned.py     the values that a revision's functions may return
driver.py       the protocol of a driver, whatever the vendor
entries.py      reading and storing entries of page tables, whatever the vendor
commands.py     handing commands to a unit, and waiting for it, whatever the vendor
places.py       the place of a word in page tables, and a store to it
mappings.py     the mappings in a domain's tables, as the CPUs have stored them
charging.py     notes each change of a mapping in the record of the call that made it
tables.py       freeing page tables
page.py         one frame, and the protocols of the checks that judge it
pages.py        owners and references of frames
physmap.py      moving pages within a domain
callers.py      Xen's callers of the wrappers, each with its lock
p2m.py          changes of the table by which CPUs translate, with the IOMMU's, on x86
p2m_calls.py    changes of the table by which CPUs and units translate, on Arm, as callers make them
p2m_types.py    the types of pages in that table
assignment.py   attaching devices to domains
device_entry.py storing a device's own entry, whatever the vendor
bitmaps.py      bitmaps that CPUs share
faults.py       faults that the strategy may inject
fixes.py        repairs that a driver has or lacks
revisions/      the wrappers and hooks at different commits of Xen
vtd/, amd/, smmu/   the drivers without their hooks

`(Xen: FILE, FUNCTION)` in a docstring names the function of Xen that the code models, and `in FUNCTION` a part of it. A
file is named relative to xen/drivers/passthrough/ if it is there, else to xen/.
"""
