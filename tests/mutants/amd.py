"""Mutants of AMD-Vi: wrong patches of its hooks, its driver, its hardware and the check of torn entries."""

from tests.mutants.mutant import REVISIONS, Mutant

IMPLICIT_HOOKS = f"{REVISIONS}implicit/amd.py"
V1_HOOKS = f"{REVISIONS}v1/amd.py"
MERGED_HOOKS = f"{REVISIONS}merged/amd.py"

DRIVER = "emu/hypervisor/amd/"
ASSIGNMENT, FLUSH, QUEUE = f"{DRIVER}assignment.py", f"{DRIVER}flush.py", f"{DRIVER}queue.py"
ENTRIES, TABLES = f"{DRIVER}device_entries.py", f"{DRIVER}tables.py"

UNIT = "emu/iommus/amd/"
DEVICE_TABLE, ENGINE, FORMATS = f"{UNIT}device_table.py", f"{UNIT}engine.py", f"{UNIT}formats.py"
CACHE, BY_ENTRY = "emu/iommus/device_entries.py", "emu/iommus/unit_by_entry.py"
BY_TAG = "emu/iommus/unit_by_tag.py"
INVALIDATION = "emu/iommus/entry_invalidation.py"

OF_HOOKS = "tests/hypervisor/amd/test_hooks.py::test_"
OF_ASSIGNMENT = "tests/hypervisor/amd/test_assignment.py::test_"
OF_FLUSH = "tests/hypervisor/amd/test_flush.py::test_"
OF_QUEUE = "tests/hypervisor/amd/test_queue.py::test_"
OF_FORMATS = "tests/iommus/amd/test_formats.py::test_"
OF_WALK = "tests/iommus/amd/test_walk.py::test_"
OF_DEVICE_TABLE = "tests/iommus/amd/test_device_table.py::test_"
OF_INVALIDATION = "tests/iommus/amd/test_invalidation.py::test_"
OF_ENGINE = "tests/iommus/amd/test_engine.py::test_"
OF_SELF_CHECK = "tests/iommus/amd/test_self_check.py::test_"
OF_TORN = "tests/checks/test_torn.py::test_"

CHANGES = f"{OF_HOOKS}a_hook_reports_what_its_change_requires_or_flushes_it"
CALLS = f"{OF_HOOKS}a_call_submits_what_its_changes_require"
LOCKED = f"{OF_HOOKS}implicit_flushes_a_map_under_the_mapping_lock_and_an_unmap_after_it"
OF_HALVES = f"{OF_TORN}a_frame_that_neither_entry_leads_to_is_found_with_both_stores"
OF_ENTRY = f"{OF_WALK}a_request_that_has_read_the_old_entry_begins_again_after_its_invalidation"
OF_RIGHTS = f"{OF_WALK}an_access_needs_the_permission_of_the_devices_entry_and_of_every_level"
OF_LEVELS = f"{OF_WALK}a_valid_entry_that_does_not_translate_aborts_each_request"
OF_DRAIN = f"{OF_ENGINE}a_wait_has_drained_the_accesses_that_were_translated_by_what_was_invalidated_before_it"
CLEARS = f"{OF_QUEUE}a_flush_clears_the_status_posts_the_command_and_a_wait_and_clears_the_status_when_it_is_set"
PDE = f"{OF_FLUSH}one_page_leaves_entries_of_higher_tables_and_ranges_drop_them"

FLUSH_OF_MAP = """\
                await amd_iommu_flush_pages(cpu, self.driver, domain, dfn, 0)
        if address is None:
            domain.crash(cpu)
            return error or EFAULT, FlushType.NONE
        return OK, FlushType.NONE
"""
FLUSH_OF_MAP_UNLOCKED = """\
                error = 1
        if address is None:
            domain.crash(cpu)
            return error or EFAULT, FlushType.NONE
        if error:
            await amd_iommu_flush_pages(cpu, self.driver, domain, dfn, 0)
        return OK, FlushType.NONE
"""
CLEAR = "                await clear_iommu_pte_present(cpu, self.driver, domain, dfn, address)\n"
CLEAR_AND_FLUSH = f"""\
{CLEAR}                await amd_iommu_flush_pages(cpu, self.driver, domain, dfn, 0)
"""
FLUSH_OF_UNMAP = """\
        await amd_iommu_flush_pages(cpu, self.driver, domain, dfn, 0)
        return OK, FlushType.NONE
"""

AMD_MUTANTS = [
    # The hooks
    Mutant(
        "merged: an AMD unmap looks for the present bit in the high half",
        MERGED_HOOKS,
        "half = old if Fix.PRESENT_BIT in driver.fixes else old >> 32",
        "half = old >> 32",
        CHANGES,
    ),
    Mutant(
        "merged: an AMD unmap takes any word for a present one",
        MERGED_HOOKS,
        "FlushType.MODIFIED if half & PRESENT else FlushType.NONE",
        "FlushType.MODIFIED",
        CHANGES,
    ),
    Mutant(
        "merged: an AMD map reports all leaves as added",
        MERGED_HOOKS,
        "FlushType.MODIFIED if has_changed(driver, old, word) else FlushType.ADDED",
        "FlushType.ADDED",
        CHANGES,
    ),
    Mutant(
        "merged: the AMD hook flushes one page of a range",
        MERGED_HOOKS,
        "flush_range(domain, dfn, page_count))",
        "0)",
        CALLS,
    ),
    Mutant(
        "v1: an AMD map reports nothing",
        V1_HOOKS,
        "FlushType.MODIFIED if has_changed(driver, old, word) else FlushType.NONE",
        "FlushType.NONE",
        CHANGES,
    ),
    Mutant(
        "v1: an AMD unmap takes no lock",
        V1_HOOKS,
        "        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):\n",
        "        if True:\n",
        f"{OF_HOOKS}later_revisions_flush_after_the_mapping_lock",
    ),
    Mutant(
        "implicit: an AMD map is flushed after the lock", IMPLICIT_HOOKS, FLUSH_OF_MAP, FLUSH_OF_MAP_UNLOCKED, LOCKED
    ),
    Mutant("implicit: an AMD unmap is flushed twice", IMPLICIT_HOOKS, CLEAR, CLEAR_AND_FLUSH, LOCKED),
    Mutant(
        "implicit: an AMD unmap is not flushed",
        IMPLICIT_HOOKS,
        FLUSH_OF_UNMAP,
        "        return OK, FlushType.NONE\n",
        CHANGES,
    ),
    # The driver
    Mutant(
        "an AMD leaf with other permissions is not changed",
        TABLES,
        "    if Fix.XSA_275 in driver.fixes:\n",
        "    if Fix.XSA_275 not in driver.fixes:\n",
        CHANGES,
    ),
    Mutant(
        "an unmap makes no AMD table",
        TABLES,
        "        if entry is None:\n            made",
        "        if entry is None:\n            return None\n            made",
        f"{OF_HOOKS}an_unmap_clears_its_leaf_even_if_there_is_none_and_makes_the_table_for_it",
    ),
    Mutant(
        "the low half of an AMD entry is stored first",
        "emu/hypervisor/entries.py",
        "for half in (Half.HIGH, Half.LOW):",
        "for half in (Half.LOW, Half.HIGH):",
        OF_HALVES,
    ),
    Mutant(
        "an AMD flush names domain id 0",
        FLUSH,
        "encode_command(InvalidatePages(domain_id, first, order, directory=order != 0))",
        "encode_command(InvalidatePages(0, first, order, directory=order != 0))",
        PDE,
    ),
    Mutant("an AMD flush of a range lacks PDE", FLUSH, "directory=order != 0", "directory=order is None", PDE),
    Mutant("an AMD flush of a page has PDE", FLUSH, "directory=order != 0", "directory=True", PDE),
    Mutant(
        "an AMD flush of a range names its first dfn unaligned",
        FLUSH,
        "first = Dfn(0) if order is None else base_of_order(dfn, order)",
        "first = Dfn(0) if order is None else dfn",
        PDE,
        equivalent="the bits below the order are those that say the size, whatever they were",
    ),
    Mutant(
        "an AMD flush skips the first unit",
        FLUSH,
        "    for iommu in driver.iommus:\n",
        "    for iommu in driver.iommus[1:] or driver.iommus:\n",
        f"{OF_FLUSH}every_unit_is_flushed_whether_the_domain_uses_it_or_not",
    ),
    Mutant(
        "an AMD flush skips units without a device of the domain",
        FLUSH,
        "    for iommu in driver.iommus:\n",
        "    used = {one.unit for one in driver.devices.values() if one.assigned_to == domain.number}\n"
        "    for iommu in [one for one in driver.iommus if one.unit in used]:\n",
        f"{OF_FLUSH}every_unit_is_flushed_whether_the_domain_uses_it_or_not",
    ),
    Mutant(
        "an AMD flush takes no lock of the unit",
        FLUSH,
        "        async with iommu.lock.held(cpu):\n",
        "        if True:\n",
        f"{OF_FLUSH}one_unit_after_the_other_each_under_its_lock_until_its_wait_is_over",
    ),
    Mutant(
        "the last page of a range is left out of its AMD flush",
        FLUSH,
        "    last = dfn + page_count - 1\n",
        "    last = dfn + max(page_count - 2, 0)\n",
        f"{OF_FLUSH}a_range_is_flushed_as_one_page_as_one_block_or_as_all_pages",
    ),
    Mutant(
        "an AMD flush posts no wait",
        QUEUE,
        "    await send_iommu_command(cpu, driver, iommu, bits)\n    await flush_command_buffer(cpu, driver, iommu)\n",
        "    await send_iommu_command(cpu, driver, iommu, bits)\n",
        CLEARS,
    ),
    Mutant(
        "an AMD wait is posted before its command",
        QUEUE,
        "    await send_iommu_command(cpu, driver, iommu, bits)\n    await flush_command_buffer(cpu, driver, iommu)\n",
        "    await flush_command_buffer(cpu, driver, iommu)\n    await send_iommu_command(cpu, driver, iommu, bits)\n",
        CLEARS,
    ),
    Mutant(
        "ComWaitInt is not cleared before a wait",
        QUEUE,
        "    await ClearBits(queue, COM_WAIT_INT)\n    latch",
        "    latch",
        CLEARS,
    ),
    Mutant(
        "ComWaitInt is not cleared after a wait",
        QUEUE,
        "    if not waits_for_ever:\n        await ClearBits",
        "    if waits_for_ever:\n        await ClearBits",
        CLEARS,
    ),
    Mutant(
        "clearing ComWaitInt clears the other bits, too",
        QUEUE,
        "self.memory.put(self.address, self.old & ~self.value, step=step, bits=32)",
        "self.memory.put(self.address, 0, step=step, bits=32)",
        f"{OF_QUEUE}clearing_the_bit_leaves_the_other_bits_of_the_status_as_they_are",
    ),
    Mutant(
        "an AMD wait is given up with the repair, too",
        QUEUE,
        "if not waits_for_ever and (not is_posted or await driver.faults.strike(cpu, Fault.WAIT)):",
        "if not is_posted or await driver.faults.strike(cpu, Fault.WAIT):",
        f"{OF_QUEUE}since_e4fee66043_no_wait_is_given_up",
    ),
    Mutant(
        "the head of the command buffer is not looked at",
        QUEUE,
        "    elif await ReadHead(queue):\n",
        "    elif await ReadHead(queue) and queue.entries < 2:\n",
        f"{OF_QUEUE}a_command_for_which_there_is_no_room_is_dropped",
    ),
    Mutant(
        "a CPU does not wait for room in the command buffer",
        QUEUE,
        "        if room is not None:\n",
        "        if room is None:\n",
        f"{OF_QUEUE}since_c4e4434357_a_cpu_waits_for_room_and_nothing_is_dropped",
    ),
    Mutant(
        "the dword of a device table entry with V and TV comes first",
        ENTRIES,
        "{2: second & HALF_MASK, 1: first >> 32, 0: first & HALF_MASK}",
        "{0: first & HALF_MASK, 1: first >> 32, 2: second & HALF_MASK}",
        f"{OF_ASSIGNMENT}until_the_last_store_the_entry_lets_requests_through_as_before",
    ),
    Mutant(
        "attaching overwrites an entry that translates",
        ASSIGNMENT,
        "        if not await translates(cpu, driver, device):\n",
        "        if not await translates(cpu, driver, device) or True:\n",
        f"{OF_ASSIGNMENT}attach_over_an_entry_that_translates_writes_and_flushes_nothing",
    ),
    Mutant(
        "attaching flushes nothing",
        ASSIGNMENT,
        "            await store_dwords(cpu, driver, device, dwords_of(entry), domain)\n"
        "            await amd_iommu_flush_device(cpu, driver, iommu, device)\n",
        "            await store_dwords(cpu, driver, device, dwords_of(entry), domain)\n",
        f"{OF_ASSIGNMENT}attach_flushes_the_devices_entry_on_its_unit_and_no_page",
    ),
    Mutant(
        "detaching leaves TV",
        ASSIGNMENT,
        "TRANSLATION_VALID if Fix.ABORT in driver.fixes else TRANSLATES\n",
        "TRANSLATION_VALID if Fix.ABORT in driver.fixes else VALID\n",
        f"{OF_ASSIGNMENT}detach_clears_v_and_tv_in_one_store_of_one_half_and_tv_alone_since_1b00c16bdf",
    ),
    Mutant(
        "a moved device's old domain id is flushed under the new one",
        ASSIGNMENT,
        "await amd_iommu_flush_unit(cpu, driver, iommu, old & DOMAIN_ID_MASK)",
        "await amd_iommu_flush_unit(cpu, driver, iommu, second & DOMAIN_ID_MASK)",
        f"{OF_ASSIGNMENT}since_1fa6e9aa36_the_new_entry_replaces_the_old_one_and_its_old_id_is_flushed",
    ),
    # The hardware: words
    Mutant(
        "reserved bits of an AMD entry are ignored",
        FORMATS,
        "if not word & PRESENT or word & RESERVED:",
        "if not word & PRESENT:",
        f"{OF_FORMATS}a_reserved_bit_faults",
    ),
    Mutant(
        "an AMD entry may lead to a table of its own level",
        FORMATS,
        "read, write) if next_level < level else None",
        "read, write) if next_level <= level else None",
        f"{OF_FORMATS}a_next_level_that_is_not_below_the_entrys_own_faults",
    ),
    Mutant(
        "mode 7 translates",
        FORMATS,
        " or mode > DEPTHS[1]):",
        "):",
        f"{OF_FORMATS}mode_7_makes_a_valid_entry_illegal",
    ),
    Mutant(
        "an AMD size is twice as large",
        FORMATS,
        "return (~frame & (frame + 1)).bit_length()",
        "return (~frame & (frame + 1)).bit_length() + 1",
        f"{OF_FORMATS}the_size_of_an_invalidation_is_the_lowest_clear_bit_of_its_address_and_pde_stands_beside_it",
    ),
    # The hardware: walks
    Mutant(
        "a device table entry without V aborts",
        DEVICE_TABLE,
        "        if not entry.is_valid:\n            return Tables(UNTRANSLATED, Maddr(0), 0)\n",
        "        if not entry.is_valid:\n            return None\n",
        f"{OF_WALK}without_v_requests_pass_through_untranslated_whatever_else_the_entry_says",
    ),
    Mutant(
        "a device table entry without TV lets requests through",
        DEVICE_TABLE,
        "        if not entry.translates:\n            return None\n",
        "        if not entry.translates:\n            return Tables(UNTRANSLATED, Maddr(0), 0)\n",
        OF_LEVELS,
    ),
    Mutant(
        "the permissions of a device table entry do not count",
        DEVICE_TABLE,
        "read=entry.read, write=entry.write)",
        "read=True, write=True)",
        OF_RIGHTS,
    ),
    Mutant(
        "the permissions of a higher table do not count",
        "emu/iommus/walk_cache.py",
        "permissions = (self.read and entry.read, self.write and entry.write)",
        "permissions = (self.read, self.write)",
        OF_RIGHTS,
    ),
    Mutant(
        "the permissions above a leaf do not count",
        "emu/iommus/walk.py",
        "read, write = table.read and entry.read, table.write and entry.write",
        "read, write = entry.read, entry.write",
        OF_RIGHTS,
    ),
    Mutant(
        "AMD translations are found by device",
        BY_TAG,
        "request.user = request.tag = request.tables.tag",
        "request.user, request.tag = request.source_id, request.tables.tag",
        f"{OF_DEVICE_TABLE}the_devices_of_a_domain_find_each_others_translations",
    ),
    Mutant(
        "an AMD unit caches faults whatever NpCache says",
        BY_TAG,
        "caches, cache = self.ledger.caches_non_present, self.walk_cache",
        "caches, cache = True, self.walk_cache",
        f"{OF_WALK}a_fault_is_cached_until_an_invalidation_if_the_unit_caches_non_present_entries_and_never_else",
    ),
    Mutant(
        "an address beyond the reach of the mode is translated",
        BY_TAG,
        "if tables is None or not 0 <= request.dfn < self.format.reach(tables.levels):",
        "if tables is None:",
        f"{OF_WALK}the_last_page_within_reach_of_the_mode_is_translated_and_the_next_one_is_not",
    ),
    # The hardware: what is void
    Mutant(
        "a device table entry is cached though it was dropped",
        CACHE,
        "self.was_filled = not any(read.was_replaced(self.unit.memory, since) for read in self.reads)",
        "self.was_filled = since >= 0",
        OF_ENTRY,
    ),
    Mutant(
        "a lookup by an entry that was dropped goes on",
        "emu/iommus/iotlb.py",
        "self.was_void = self.is_void(self.request)",
        "self.was_void = False",
        f"{OF_WALK}what_is_cached_under_the_old_id_is_not_found_after_the_invalidation_of_the_entry_that_said_it",
    ),
    Mutant(
        "a walk by an entry that was dropped fills",
        BY_ENTRY,
        "        if self.device_table.is_void(request, self.format.device_level):\n            return True\n",
        "",
        OF_ENTRY,
    ),
    Mutant(
        "a walk goes on from a start below another root that was dropped",
        BY_ENTRY,
        "if self.requests.has_dropped_start(request) and self.is_from_another_root(request):",
        "if request.dfn < 0:",
        f"{OF_WALK}a_walk_from_an_entry_that_was_cached_below_another_root_begins_again_when_the_entry_is_dropped",
    ),
    Mutant(
        "a request passes through by an entry that was dropped",
        "emu/iommus/pass_through.py",
        "        if self.is_void(self.request):\n",
        "        if self.entry is None:\n",
        f"{OF_WALK}a_request_that_is_about_to_pass_through_begins_again_after_the_invalidation_of_its_entry",
    ),
    Mutant(
        "an invalidation of pages voids walks by the device's own entry",
        BY_ENTRY,
        "return read.level != self.format.device_level and read",
        "return read",
        f"{OF_WALK}a_request_that_has_read_the_old_entry_goes_on_after_anything_else",
    ),
    Mutant(
        "an invalidation of one device's entry drops every device's",
        CACHE,
        "dropped = [one for one in self.entries if source_id in {None, one}]",
        "dropped = list(self.entries)",
        f"{OF_DEVICE_TABLE}an_invalidation_drops_cached_entries_of_its_device_alone_and_says_how_many",
    ),
    Mutant(
        "an old device table entry ends with any invalidation that completes later",
        CACHE,
        "if start >= replaced and done in",
        "if step >= replaced and done in",
        f"{OF_DEVICE_TABLE}an_invalidation_counts_only_if_it_began_when_the_new_entry_was_stored_or_later",
    ),
    Mutant(
        "an invalidation misses one entry",
        "emu/iommus/iotlb.py",
        "[self.entries[key] for key in self.matching(tag, first, last)]",
        "[self.entries[key] for key in self.matching(tag, first, last)][:-1]",
        f"{OF_SELF_CHECK}an_invalidation_that_misses_one_entry_is_noticed",
    ),
    Mutant(
        "a cached entry of a higher table is kept over PDE",
        "emu/iommus/walk_cache.py",
        "left = [one for one in cached if tag not in {None, one.tables.tag}]",
        "left = cached",
        f"{OF_SELF_CHECK}an_entry_of_a_higher_table_that_the_unit_caches_over_an_invalidation_with_pde_is_noticed",
    ),
    Mutant(
        "an entry of a higher table is kept over PDE",
        "emu/iommus/requests.py",
        "return (read.is_leaf or not self.leaf_only) and read",
        "return read.is_leaf and read",
        f"{OF_SELF_CHECK}an_entry_of_a_higher_table_that_is_kept_over_an_invalidation_with_pde_is_noticed",
    ),
    # The hardware: commands
    Mutant(
        "an AMD wait does not drain what was translated",
        "emu/iommus/invalidation.py",
        "        for request in self.to_drain:\n            await Wait(request.committed)\n",
        "",
        f"{OF_SELF_CHECK}a_wait_that_completes_before_what_it_must_drain_is_noticed",
    ),
    Mutant(
        "an AMD wait does not drain what a device table entry let through",
        INVALIDATION,
        "            for request in to_drain:\n                await Wait(request.committed)\n",
        "",
        OF_DRAIN,
    ),
    Mutant(
        "an old device table entry ends before its accesses are drained",
        INVALIDATION,
        "        if not translated or unit.settings.synchronous:\n",
        "        if unit.device_table is not None:\n",
        f"{OF_ENGINE}a_devices_old_entry_counts_as_in_use_until_the_accesses_that_it_let_through_are_drained",
    ),
    Mutant(
        "an access that passes through is not drained",
        INVALIDATION,
        "if one.is_translated and self.source_id in",
        "if one.is_translated and one.tables.levels and self.source_id in",
        f"{OF_ENGINE}an_access_that_passes_through_is_drained_by_an_invalidation_of_its_devices_entry",
    ),
    Mutant(
        "F counts on the oldest wait only",
        ENGINE,
        "any(one.wait is not None and one.wait.flush for one in waits)",
        "any(one.wait is not None and one.wait.flush for one in waits[:1])",
        f"{OF_ENGINE}nothing_behind_a_wait_with_f_begins_before_it_has_completed_where_an_older_wait_lacks_f",
    ),
    Mutant(
        "every AMD wait counts as one with F",
        ENGINE,
        "unit.settings.synchronous or any(",
        "unit.settings.synchronous or waits or any(",
        f"{OF_ENGINE}both_orders_of_a_wait_and_the_command_behind_it_are_explored_if_it_lacks_f",
    ),
    Mutant(
        "the youngest AMD wait completes first",
        ENGINE,
        "await waits.pop(0).complete()",
        "await waits.pop().complete()",
        f"{OF_ENGINE}waits_complete_in_their_order",
    ),
    Mutant(
        "an AMD wait stores 32 bits",
        ENGINE,
        "wait.store_address, wait.store_data, 64, posted",
        "wait.store_address, wait.store_data & 0xFFFF_FFFF, 32, posted",
        f"{OF_ENGINE}a_wait_with_s_stores_its_64_bits_at_its_address",
    ),
    Mutant(
        "an invalidation of everything leaves device table entries",
        ENGINE,
        "                await segment.invalidate_device(slot, None)\n",
        "",
        f"{OF_INVALIDATION}an_invalidation_of_everything_removes_every_device_entry_and_every_translation",
    ),
    Mutant(
        "PDE is taken for its contrary",
        ENGINE,
        "return Range(slot, command.domain_id, first, command.order, not command.directory)",
        "return Range(slot, command.domain_id, first, command.order, command.directory)",
        f"{OF_INVALIDATION}the_engine_tells_the_ledger_whether_pde_was_set",
    ),
    # The check of torn entries
    Mutant(
        "a torn entry counts only if it leads elsewhere",
        "emu/checks/torn.py",
        "    return entry.read <= whole.read and entry.write <= whole.write\n",
        "    return True\n",
        f"{OF_TORN}it_is_found_whatever_the_revision",
    ),
    Mutant(
        "an entry that is part of the old one counts as torn",
        "emu/checks/torn.py",
        "if composed is None or is_part_of(composed, old) or is_part_of",
        "if composed is None or is_part_of",
        f"{OF_TORN}what_is_part_of_the_old_or_of_the_new_entry_is_not_found",
    ),
    Mutant(
        "a use of a torn entry between its stores is forgotten",
        "emu/checks/torn.py",
        "            if address in self.halves:\n",
        "            if address not in self.halves:\n",
        f"{OF_TORN}a_device_that_uses_it_before_or_after_the_second_store_makes_it_observed",
    ),
]
