"""Mutants of the p2m of Arm: wrong patches of it, of the SMMU's hooks and driver, and of what they rely on."""

from tests.mutants.mutant import REVISIONS, Mutant

MERGED_P2M, MERGED_HOOKS = f"{REVISIONS}merged/p2m.py", f"{REVISIONS}merged/smmu.py"
V1_P2M = f"{REVISIONS}v1/p2m.py"

DRIVER = "emu/hypervisor/smmu/"
ASSIGNMENT, INIT, ENTRIES = f"{DRIVER}assignment.py", f"{DRIVER}p2m_init.py", f"{DRIVER}entries.py"
FLUSH, LOCK, SET_WAY = f"{DRIVER}flush.py", f"{DRIVER}p2m_lock.py", f"{DRIVER}set_way.py"
SUPERPAGES, TABLES = f"{DRIVER}superpages.py", f"{DRIVER}tables.py"

UNIT = "emu/iommus/smmu/"
QUEUE, REGISTERS = f"{UNIT}queue.py", f"{UNIT}registers.py"

TESTS = "tests/hypervisor/smmu/test_"
OF_P2M, OF_SPLIT, OF_FREEING = f"{TESTS}p2m.py::test_", f"{TESTS}superpages.py::test_", f"{TESTS}freeing.py::test_"
OF_SET_WAY, OF_FLUSH, OF_HOOKS = f"{TESTS}set_way.py::test_", f"{TESTS}flush.py::test_", f"{TESTS}hooks.py::test_"
OF_ASSIGNMENT, OF_WRITE_BACK = f"{TESTS}assignment.py::test_", f"{TESTS}write_back.py::test_"
OF_ATTACHED = "tests/checks/test_assignments.py::test_"

REMOVAL = f"{OF_P2M}after_a_removal_the_cpus_are_flushed_before_the_lock_is_dropped"
REPAIRED = f"{OF_P2M}a_repaired_p2m_flushes_the_smmu_after_the_store_and_the_cpus_of_a_removal_after_that"
TRACKED = f"{OF_SET_WAY}a_removal_of_a_tracked_entry_stores_flushes_and_frees_nothing_though_repaired"
FILLED = f"{OF_SPLIT}the_new_table_is_filled_before_the_block_is_cleared_and_entered_after_the_cpus_are_flushed"
POLLS = f"{OF_FLUSH}a_cpu_polls_until_no_synchronisation_is_active"
ORDER = (
    f"{OF_ASSIGNMENT}the_first_device_of_a_domain_takes_a_bank_whose_sctlr_is_stored_last_before_the_stream_is_matched"
)
LAST = f"{OF_ASSIGNMENT}detach_of_the_last_disables_the_bank_invalidates_its_vmid_waits_and_frees_it"

CHANGE = """\
    if is_lpae_valid(original):
        await p2m_remove_pte(cpu, domain, gfn, address, target)
        p2m.need_flush = True
"""
STORE_AND_FREE = """\
        await p2m_write_pte(cpu, domain, gfn, address, p2m_word(domain, mfn, p2m_type, target), target)
    is_freed = replaces_frame(original, mfn)
    if is_freed and Fix.FLUSH_BEFORE_FREE not in domain.ops.fixes:
        await p2m_free_entry(p2m, gfn, original, target)
    result = OK
    if need_iommu_flush(domain) and (is_lpae_valid(original) or mfn is not None):
        flush_type = FlushType.MODIFIED if is_lpae_valid(original) else FlushType.ADDED
        result = await iommu_iotlb_flush(cpu, domain, gfn, page_count(page_order), flush_type)
"""
FLUSH_AND_STORE = """\
        pass
    is_freed = replaces_frame(original, mfn)
    if is_freed and Fix.FLUSH_BEFORE_FREE not in domain.ops.fixes:
        await p2m_free_entry(p2m, gfn, original, target)
    result = OK
    if need_iommu_flush(domain) and (is_lpae_valid(original) or mfn is not None):
        flush_type = FlushType.MODIFIED if is_lpae_valid(original) else FlushType.ADDED
        result = await iommu_iotlb_flush(cpu, domain, gfn, page_count(page_order), flush_type)
    if mfn is not None:
        await p2m_write_pte(cpu, domain, gfn, address, p2m_word(domain, mfn, p2m_type, target), target)
"""
FREE_FIRST = """\
    if is_freed and Fix.FLUSH_BEFORE_FREE not in domain.ops.fixes:
        await p2m_free_entry(p2m, gfn, original, target)
    result = OK
"""
FREE_ALWAYS_FIRST = """\
    if is_freed:
        await p2m_free_entry(p2m, gfn, original, target)
    is_freed, result = False, OK
"""
SPLIT = """\
    split = await p2m_split_superpage(p2m, gfn, word, level, target)
    if split is None:
        return None
    await p2m_remove_pte(cpu, domain, gfn, address, level)
    await p2m_force_tlb_flush_sync(p2m)
"""
SPLIT_LATE = """\
    await p2m_remove_pte(cpu, domain, gfn, address, level)
    await p2m_force_tlb_flush_sync(p2m)
    split = await p2m_split_superpage(p2m, gfn, word, level, target)
    if split is None:
        return None
"""
SCTLR = '        (registers.of_bank(bank, SCTLR), CONTROL, "sctlr"),\n'
TTBCR = '        (registers.of_bank(bank, TTBCR), encode_ttbcr(ipa_bits), "ttbcr"),\n'
DISABLED = """\
    await arm_smmu_tlb_inv_context(cpu, driver, iommu, bank)
    await iommu.context_map.clear(bank)
"""
DETACHED = '[(registers.s2cr(stream), S2CR_FAULT, "s2cr"), (registers.smr(stream), 0, "smr")]'
UNLOCKED = """\
        if error is None:
            await p2m_tlb_flush_sync(self)
        await self.held.__aexit__(kind, error, traceback)
"""
UNLOCKED_FIRST = """\
        await self.held.__aexit__(kind, error, traceback)
        if error is None:
            await p2m_tlb_flush_sync(self)
"""

OF_THE_P2M = [
    Mutant(
        "merged: the p2m breaks an entry without a flush of the CPUs",
        MERGED_P2M,
        "        if is_lpae_valid(original):\n            await p2m_force_tlb_flush_sync(p2m)\n",
        "",
        "p2m_page_freed",
        "held=foreign repaired=true flushed_first=true",
    ),
    Mutant("merged: the p2m stores over an entry without a break", MERGED_P2M, CHANGE, "", "p2m_page_freed"),
    Mutant(
        "merged: the p2m flushes the SMMU before the store",
        MERGED_P2M,
        STORE_AND_FREE,
        FLUSH_AND_STORE,
        REPAIRED,
    ),
    Mutant(
        "merged: the p2m frees before its flush though repaired",
        MERGED_P2M,
        FREE_FIRST,
        FREE_ALWAYS_FIRST,
        "p2m_page_freed",
        "held=foreign repaired=true flushed_first=true",
    ),
    Mutant(
        "merged: the p2m forgets the CPUs after a removal", MERGED_P2M, "        p2m.need_flush = True\n", "", REMOVAL
    ),
    Mutant(
        "merged: the p2m asks for no flush of an entry that was there",
        MERGED_P2M,
        "FlushType.MODIFIED if is_lpae_valid(original) else FlushType.ADDED",
        "FlushType.NONE if is_lpae_valid(original) else FlushType.ADDED",
        "p2m_remapped_before_flush",
        "repaired=true",
    ),
    Mutant(
        "v1: the p2m flushes for new entries only",
        V1_P2M,
        "(is_lpae_valid(original) or mfn is not None)",
        "mfn is not None",
        "p2m_remapped_before_flush",
        "repaired=true",
    ),
    Mutant(
        "merged: the p2m leaves an identical entry as it is",
        MERGED_P2M,
        CHANGE,
        "    if mfn is not None and original == p2m_word(domain, mfn, p2m_type, target):\n        return OK\n" + CHANGE,
        f"{OF_P2M}an_identical_map_breaks_the_entry_and_flushes_the_smmu_once_repaired",
    ),
    Mutant(
        "merged: the p2m clears an entry that Xen tracks",
        MERGED_P2M,
        "    if is_lpae_valid(original):\n        await p2m_remove_pte",
        "    if original:\n        await p2m_remove_pte",
        TRACKED,
    ),
    Mutant(
        "merged: the p2m says -ENOMEM where a table is missing",
        MERGED_P2M,
        "return OK if mfn is None else ENOENT",
        "return OK if mfn is None else ENOMEM",
        f"{OF_P2M}without_memory_for_a_table_an_add_fails_and_has_stored_nothing",
    ),
    Mutant(
        "merged: the p2m goes on after an error",
        MERGED_P2M,
        "        if result != OK:\n            return result\n        done",
        "        done",
        f"{OF_P2M}the_first_error_ends_a_range_and_what_was_mapped_before_it_stays",
    ),
    Mutant(
        "merged: the p2m takes no lock",
        MERGED_P2M,
        '"""Unmap 2^page_order pages, whatever is mapped there (Xen: arch/arm/p2m.c, guest_physmap_remove_page)."""\n'
        "    async with p2m_write_lock(cpu, domain) as p2m:\n",
        '"""Unmap 2^page_order pages, whatever is mapped there (Xen: arch/arm/p2m.c, guest_physmap_remove_page)."""\n'
        "    if p2m := P2mWrite(cpu, domain, domain.grant_lock.held(cpu)):\n",
        "p2m_page_removed_twice",
        "repaired=true",
    ),
    Mutant("a p2m is unlocked before the CPUs are flushed", LOCK, UNLOCKED, UNLOCKED_FIRST, REMOVAL),
    Mutant(
        "the p2m asks for the SMMU the other way round",
        TABLES,
        "if Fix.HAS_IOMMU in domain.ops.fixes",
        "if Fix.HAS_IOMMU not in domain.ops.fixes",
        "p2m_remapped_before_flush",
        "repaired=true",
    ),
    Mutant(
        "the p2m drops a reference of every page",
        TABLES,
        "        if level == 1 and type_of(word).is_foreign:\n",
        "        if level == 1:\n",
        f"{OF_FREEING}a_page_loses_a_reference_only_if_it_is_foreign",
    ),
    Mutant(
        "the p2m frees what it enters again",
        TABLES,
        "    return is_p2m_valid(word) and next_table(word) != frame_address(mfn)\n",
        "    return is_p2m_valid(word)\n",
        f"{OF_FREEING}a_foreign_page_whose_permissions_alone_change_keeps_its_reference",
    ),
    Mutant(
        "a block leaves the tables below it",
        TABLES,
        "        await p2m_free_entry(p2m, page, entry, below)\n",
        "",
        f"{OF_FREEING}a_block_in_the_place_of_a_table_frees_that_and_the_tables_below_after_a_flush_of_the_cpus",
    ),
    Mutant(
        "a leaf is as large as the page alone is aligned",
        TABLES,
        "    mask = gfn | (mfn or 0) | pages\n",
        "    mask = gfn | pages\n",
        f"{OF_P2M}a_leaf_is_as_large_as_the_page_the_frame_and_what_is_left_are_aligned",
    ),
    Mutant("a block is cleared before its table is filled", SUPERPAGES, SPLIT, SPLIT_LATE, FILLED),
    Mutant(
        "a block is split without a flush of the CPUs",
        SUPERPAGES,
        "    await p2m_force_tlb_flush_sync(p2m)\n",
        "",
        FILLED,
    ),
    Mutant(
        "a block is split one level only",
        SUPERPAGES,
        "        if below > target and page == format_.base(gfn, below):\n",
        "        if False and below > target and page == format_.base(gfn, below):\n",
        f"{OF_SPLIT}where_a_block_of_16_pages_is_split_into_pages_the_one_block_of_4_is_split_first",
    ),
    Mutant(
        "the leaves of a split block are all valid",
        SUPERPAGES,
        "        leaf = leaf if is_lpae_valid(word) else leaf & ~VALID\n",
        "",
        f"{OF_SPLIT}a_block_that_is_invalid_for_hardware_is_split_into_leaves_that_are_so_too",
    ),
    Mutant(
        "a table that a block was split into is not written back",
        SUPERPAGES,
        "        await clean(cpu, Maddr(line))\n",
        "        _ = line\n",
        f"{OF_WRITE_BACK}a_table_that_a_block_is_split_into_is_written_back_line_by_line_when_it_is_complete",
    ),
    Mutant(
        "an entry of a p2m is not written back",
        ENTRIES,
        "    await StoreEntry(cpu, domain, gfn, level, address, word)\n    await clean(cpu, address)\n",
        "    await StoreEntry(cpu, domain, gfn, level, address, word)\n",
        f"{OF_WRITE_BACK}each_store_is_written_back_before_the_cpus_are_flushed",
    ),
    Mutant(
        "an IOMMU page may be executed",
        ENTRIES,
        " | (0 if p2m_type.is_executable else EXECUTE_NEVER)",
        "",
        f"{OF_P2M}a_leaf_has_its_type_where_hardware_ignores_it_and_cannot_be_executed_unless_it_is_ram",
    ),
    Mutant(
        "Xen forgets an entry that it tracks",
        SET_WAY,
        "word & ~VALID, level)",
        "0, level)",
        f"{OF_SET_WAY}each_fault_makes_one_entry_valid_and_the_entries_of_its_table_invalid",
    ),
    Mutant(
        "valid bits stay in the table that a fault leads to",
        SET_WAY,
        "                if is_table(word, level):\n",
        "                if is_table(word, level) and level < 2:\n",
        f"{OF_SET_WAY}each_fault_makes_one_entry_valid_and_the_entries_of_its_table_invalid",
    ),
    Mutant(
        "a store below an entry that Xen tracks is not charged",
        INIT,
        "CpuTlb(domain.number), VALID",
        "CpuTlb(domain.number), 0",
        TRACKED,
    ),
]
"""Of the p2m of each revision, and of what they share."""

OF_THE_DRIVER = [
    Mutant(
        "merged: an SMMU hook maps without permissions",
        MERGED_HOOKS,
        "        if not flags:\n            return EINVAL, FlushType.NONE\n        p2m_type",
        "        p2m_type",
        "smmu_hook_refuses",
    ),
    Mutant(
        "merged: an SMMU hook unmaps pages of a guest",
        MERGED_HOOKS,
        "        if not domain.is_direct_mapped:\n            return EINVAL, FlushType.NONE\n        return",
        "        return",
        f"{OF_HOOKS}an_unmap_in_a_guest_is_refused_and_stores_nothing",
    ),
    Mutant(
        "merged: an SMMU hook asks for a flush of what it has unmapped",
        MERGED_HOOKS,
        "guest_physmap_remove_page(cpu, domain, dfn, Mfn(dfn), 0), FlushType.NONE",
        "guest_physmap_remove_page(cpu, domain, dfn, Mfn(dfn), 0), FlushType.MODIFIED",
        f"{OF_HOOKS}an_unmap_removes_the_page_and_reports_no_flush",
    ),
    Mutant(
        "merged: an SMMU hook maps for writing what may be read only",
        MERGED_HOOKS,
        "P2mType.IOMMU_MAP_RW if MapFlags.WRITABLE in flags",
        "P2mType.IOMMU_MAP_RW if MapFlags.READABLE in flags",
        f"{OF_HOOKS}a_map_enters_an_iommu_page_and_reports_no_flush",
    ),
    Mutant(
        "an SMMU is flushed by the number of the bank",
        FLUSH,
        "    return bank + 1\n",
        "    return bank\n",
        f"{OF_FLUSH}a_bank_has_the_vmid_of_the_next_number_for_0_stands_for_no_guest",
    ),
    Mutant(
        "an SMMU is flushed by the VMID of another bank",
        FLUSH,
        "    await WriteTlbRegister(iommu.unit.queue, vmid_of(bank))\n",
        "    await WriteTlbRegister(iommu.unit.queue, vmid_of(bank + 1))\n",
        "p2m_remapped_before_flush",
        "repaired=true",
    ),
    Mutant(
        "a CPU does not poll for an SMMU",
        FLUSH,
        "    while (latch := await ReadTlbStatus(queue)) is not None:\n",
        "    while False and (latch := await ReadTlbStatus(queue)) is not None:\n",
        "p2m_remapped_before_flush",
        "repaired=true",
    ),
    Mutant("a CPU asks an SMMU for no synchronisation", FLUSH, "    await WriteTlbRegister(queue, SYNC)\n", "", POLLS),
    Mutant(
        "a flush of an SMMU takes no lock",
        FLUSH,
        "    async with xen_domain.lock.held(cpu):\n",
        "    if True:\n",
        f"{OF_FLUSH}two_flushes_of_one_domain_are",
    ),
    Mutant(
        "one SMMU of several is flushed",
        FLUSH,
        "        for context in await xen_domain.contexts.read():\n",
        "        for context in (await xen_domain.contexts.read())[:1]:\n",
        f"{OF_FLUSH}each_unit_that_the_domain_uses_is_asked_once_for_its_vmid_there_and_for_a_synchronisation",
    ),
    Mutant("a bank is enabled before its tables have a width", ASSIGNMENT, TTBCR + SCTLR, SCTLR + TTBCR, ORDER),
    Mutant(
        "a stream is matched no more before it faults",
        ASSIGNMENT,
        DETACHED,
        '[(registers.smr(stream), 0, "smr"), (registers.s2cr(stream), S2CR_FAULT, "s2cr")]',
        f"{OF_ASSIGNMENT}detach_lets_the_stream_fault_before_its_match_register_is_cleared",
    ),
    Mutant(
        "a bank is freed before its VMID is invalidated",
        ASSIGNMENT,
        DISABLED,
        "".join(reversed(DISABLED.splitlines(keepends=True))),
        LAST,
    ),
    Mutant(
        "a bank is freed and its VMID is not invalidated",
        ASSIGNMENT,
        DISABLED,
        "    await iommu.context_map.clear(bank)\n",
        "context_bank_reused",
        "answered=true",
    ),
    Mutant(
        "each device that leaves frees the bank of its domain",
        ASSIGNMENT,
        "        if context is not None and context.devices == 1:\n",
        "        if context is not None:\n",
        f"{OF_ASSIGNMENT}detach_of_one_of_two_devices_flushes_nothing_so_that_requests_in_flight_may_go_on",
    ),
    Mutant(
        "a stream match register is taken for good",
        ASSIGNMENT,
        "        await iommu.smr_map.clear(stream)\n",
        "",
        f"{OF_ASSIGNMENT}the_first_free_bank_and_the_first_free_stream_match_register_are_taken",
    ),
    Mutant(
        "a bank that no device uses stays taken",
        ASSIGNMENT,
        "            if context is not None and not context.devices:\n",
        "            if context is not None and context.devices:\n",
        f"{OF_ASSIGNMENT}without_a_free_stream_match_register_attach_is_refused_and_a_bank_that_was_taken_for_it_is_freed",
    ),
    Mutant(
        "a p2m has one table at the top",
        INIT,
        "span, count = 1 << domain.format.orders[domain.levels + 1], root_tables(ipa_bits)",
        "span, count = 1 << domain.format.orders[domain.levels + 1], 1",
        f"{OF_P2M}the_second_root_table_leads_to_the_pages_above_512_gib",
    ),
]
"""Of the driver and its hooks."""

OF_WHAT_IS_BELOW = [
    Mutant(
        "a stream of type fault is translated",
        REGISTERS,
        "        if asked & S2CR_TYPE != S2CR_TRANSLATE or asked & S2CR_BANK >= BANKS:\n",
        "        if asked & S2CR_BANK >= BANKS:\n",
        f"{OF_ASSIGNMENT}until_its_s2cr_is_stored_the_streams_requests_fault",
    ),
    Mutant(
        "every stream is translated by bank 0",
        REGISTERS,
        "        number = asked & S2CR_BANK\n",
        "        number = 0\n",
        ORDER,
    ),
    Mutant(
        "a poll sees no synchronisation but the last two",
        QUEUE,
        "        if not self.active:\n",
        "        if self.active < 2:\n",
        POLLS,
    ),
    Mutant(
        "what was cached under a VMID for another domain is not looked for",
        "emu/checks/assignments.py",
        "tables.tag == now.tag and tables.root != now.root",
        "tables.tag == now.tag and tables.root == now.root",
        f"{OF_ATTACHED}a_device_that_finds_what_was_cached_for_another_domain_under_its_vmid_is_found",
    ),
    Mutant(
        "what a domain may use of another is a breach when it gets its VMID",
        "emu/checks/assignments.py",
        "                    if page is not None and not may_use(page, joined, flags):\n",
        "                    if page is not None:\n",
        f"{OF_ATTACHED}what_it_finds_of_a_frame_that_its_domain_may_use_is_no_breach",
    ),
]
"""Of the unit, and of what the checks know of it."""

P2M_MUTANTS = [*OF_THE_P2M, *OF_THE_DRIVER, *OF_WHAT_IS_BELOW]
