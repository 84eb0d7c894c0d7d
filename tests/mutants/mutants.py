"""The mutants that are tried: wrong patches of the wrappers, the hooks, the driver, the checks and the hardware."""

from tests.mutants.amd import AMD_MUTANTS
from tests.mutants.mutant import REVISIONS, Mutant
from tests.mutants.p2m import P2M_MUTANTS
from tests.mutants.smmu import SMMU_MUTANTS

MERGED_WRAPPERS = f"{REVISIONS}merged/iommu.py"
MERGED_HOOKS = f"{REVISIONS}merged/vtd.py"
V1_WRAPPERS = f"{REVISIONS}v1/iommu.py"
V1_HOOKS = f"{REVISIONS}v1/vtd.py"
FLUSH_ON_ERROR_WRAPPERS = f"{REVISIONS}flush_on_error/iommu.py"
ASSIGNMENT = "emu/hypervisor/vtd/assignment.py"
PROMISES = "emu/checks/promises.py"
SUPERPAGES = "tests/hypervisor/test_superpages.py::"

MAP_TYPE = """\
, Mfn(mfn + i), flags)
        flush_type = max(flush_type, this_flush_type)
"""
UNMAP_TYPE = """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = max(flush_type, this_flush_type)
"""
ROLL_BACK = """\
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
        await domain.ops.iotlb_flush_all(cpu, domain)
"""
ROLL_BACK_TYPE = """\
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
            flush_type = max(flush_type, this_flush_type)
"""
ROLL_BACK_ONLY = "            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))\n"
LEGACY_MAP = """\
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
"""
LEGACY_UNMAP = """\
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
"""
FLUSH_ALL = """\
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result
"""
REPORT = "return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED"
REPORT_OF_FRAME = """\
if old & ~3 == new & ~3:
            return OK, FlushType.NONE
        return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED"""
LOCKED = "async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):"
CLEAR = """\
        await write_pte(cpu, domain, dfn, address, 0)
    await iommu_flush_cache_entry(cpu, driver, address)
"""
CLEAR_UNLOCKED = """\
    await write_pte(cpu, domain, dfn, address, 0)
    await iommu_flush_cache_entry(cpu, driver, address)
"""
FLUSH_DEVICE = """\
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
"""
CLEAR_ONLY = "        await write_pte(cpu, domain, dfn, address, 0)\n"
CLEAR_LAST = """\
        await iommu_flush_cache_entry(cpu, driver, address)
        await write_pte(cpu, domain, dfn, address, 0)
"""
STORE = """\
            await write_pte(cpu, domain, dfn, address, new)
            await iommu_flush_cache_entry(cpu, self.driver, address)
"""
STORE_ONLY = "            await write_pte(cpu, domain, dfn, address, new)\n"
STORE_LAST = """\
            await iommu_flush_cache_entry(cpu, self.driver, address)
            await write_pte(cpu, domain, dfn, address, new)
"""

MUTANTS = [
    # Filling tables
    Mutant(
        "v1: iommu_hwdom_init never flushes",
        V1_WRAPPERS,
        "        elif domain.ops.has_iotlb_flush_all:\n",
        "        elif False:\n",
        "hwdom_init_after_error",
        "hook=false revision=v1",
    ),
    Mutant(
        "merged: iommu_hwdom_init forgets what to flush",
        MERGED_WRAPPERS,
        "            flush_type = max(flush_type, this_flush_type)\n            result = result or error\n",
        "            result = result or error\n",
        "hwdom_init_after_error",
        "hook=false revision=merged",
    ),
    Mutant(
        "merged: iommu_hwdom_init maps a page table to write",
        MERGED_WRAPPERS,
        "in {PageType.NONE, PageType.WRITABLE}",
        "in set(PageType)",
        "hwdom_init_after_error",
        "revision=merged",
    ),
    Mutant(
        "v1: arch_iommu_hwdom_init does not flush",
        f"{REVISIONS}v1/x86.py",
        "    await cpu.write(iommu_dont_flush_iotlb, False)\n    await iommu_iotlb_flush_all(cpu, domain)\n",
        "    await cpu.write(iommu_dont_flush_iotlb, False)\n",
        "softirq_in_hwdom_init",
        "caching_mode=true revision=v1",
    ),
    Mutant(
        "merged: populate flushes nothing",
        f"{REVISIONS}merged/x86.py",
        "        result = await iommu_iotlb_flush_all(cpu, domain, FlushType.MODIFIED)\n",
        "        pass\n",
        "map_between_populate_passes",
        "change=replace revision=merged",
    ),
    Mutant(
        "v1: populate reports success after an error",
        f"{REVISIONS}v1/x86.py",
        "                    await Add(pages, ListName.PAGES, mfn, at_head=True)\n",
        "                    result = OK\n",
        "map_between_populate_passes",
        "hook_faults=1 revision=v1",
    ),
    Mutant(
        "merged: the unity map goes on after an error",
        f"{REVISIONS}merged/amd.py",
        "        if result != OK:\n            break\n    if flush_type",
        "    if flush_type",
        "unity_map_fails_halfway",
        "revision=merged",
    ),
    # The flush type of a range
    Mutant(
        "merged: map reports the last page's type",
        MERGED_WRAPPERS,
        MAP_TYPE,
        """\
, Mfn(mfn + i), flags)
        flush_type = this_flush_type
""",
        "free_all_but_one_page",
        "change=replace revision=merged",
    ),
    Mutant(
        "merged: unmap reports the last page's type",
        MERGED_WRAPPERS,
        UNMAP_TYPE,
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = this_flush_type
""",
        "free_all_but_one_page",
        "revision=merged",
    ),
    Mutant(
        "v1: map flushes by the last page's type",
        V1_WRAPPERS,
        "flush_type = max(flush_type, this_flush_type)",
        "flush_type = this_flush_type",
        "free_all_but_one_page",
        "change=replace revision=v1",
    ),
    Mutant(
        "merged: map keeps the first page's type",
        MERGED_WRAPPERS,
        MAP_TYPE,
        """\
, Mfn(mfn + i), flags)
        flush_type = this_flush_type if i == 0 else flush_type
""",
        "free_all_but_one_page",
        "change=replace kept=0 revision=merged",
    ),
    Mutant(
        "merged: unmap keeps the first page's type",
        MERGED_WRAPPERS,
        UNMAP_TYPE,
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = this_flush_type if i == 0 else flush_type
""",
        "free_all_but_one_page",
        "kept=0 revision=merged",
    ),
    Mutant(
        "merged: unmap reports the smallest type",
        MERGED_WRAPPERS,
        UNMAP_TYPE,
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = min(flush_type or 2, this_flush_type)
""",
        "free_all_but_one_page",
        "revision=merged",
    ),
    # A map that fails
    Mutant(
        "v1: flush_all before the roll-back",
        V1_WRAPPERS,
        ROLL_BACK,
        """\
        await domain.ops.iotlb_flush_all(cpu, domain)
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
""",
        "failed_map_leaves_entries",
        "freed=new revision=v1",
    ),
    Mutant(
        "v1: no flush_all after the roll-back",
        V1_WRAPPERS,
        ROLL_BACK,
        """\
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
""",
        "failed_map_leaves_entries",
        "freed=new revision=v1",
    ),
    Mutant(
        "flush_on_error: flush_all before the roll-back",
        FLUSH_ON_ERROR_WRAPPERS,
        """\
        for mapped in reversed(range(i)):
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
            flush_type = max(flush_type, this_flush_type)
        if not domain.is_hardware_domain:
            domain.crash(cpu)
        break

    return result, await flush_failed(cpu, domain, page_order, result, flush_type)
""",
        """\
        flush_type = await flush_failed(cpu, domain, page_order, result, flush_type)
        for mapped in reversed(range(i)):
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
            flush_type = max(flush_type, this_flush_type)
        if not domain.is_hardware_domain:
            domain.crash(cpu)
        break

    return result, flush_type
""",
        "failed_map_leaves_entries",
        "freed=new revision=flush_on_error",
    ),
    Mutant(
        "merged: the roll-back's type is dropped",
        MERGED_WRAPPERS,
        ROLL_BACK_TYPE,
        ROLL_BACK_ONLY,
        "free_new_frames_after_error",
        "extend=true revision=merged",
    ),
    Mutant(
        "flush_on_error: the roll-back's type is dropped",
        FLUSH_ON_ERROR_WRAPPERS,
        ROLL_BACK_TYPE,
        ROLL_BACK_ONLY,
        "free_new_frames_after_error",
        "extend=true revision=flush_on_error",
    ),
    Mutant(
        "merged: no flush after a map that failed",
        MERGED_WRAPPERS,
        LEGACY_MAP,
        """\
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb) and result == OK:
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
""",
        "free_new_frames_after_error",
        "revision=merged",
    ),
    Mutant(
        "flush_on_error: no flush after a map that failed",
        FLUSH_ON_ERROR_WRAPPERS,
        """\
        break

    return result, await flush_failed(cpu, domain, page_order, result, flush_type)


async def iommu_legacy_map(""",
        """\
        break

    return result, flush_type


async def iommu_legacy_map(""",
        "free_new_frames_after_error",
        "revision=flush_on_error",
    ),
    # An unmap that fails
    Mutant(
        "merged: no flush after an unmap that failed",
        MERGED_WRAPPERS,
        LEGACY_UNMAP,
        """\
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb) and result == OK:
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
""",
        "unmap_again_page_by_page",
        "revision=merged",
    ),
    Mutant(
        "v1: the error is kept, and nothing flushed",
        V1_WRAPPERS,
        """\
    if domain.ops.has_iotlb_flush:
        count = unsigned_int(page_count(page_order))
""",
        """\
    if result != OK:
        return result
    if domain.ops.has_iotlb_flush:
        count = unsigned_int(page_count(page_order))
""",
        "unmap_again_page_by_page",
        "revision=v1",
    ),
    Mutant(
        "flush_on_error: no flush after an unmap that failed",
        FLUSH_ON_ERROR_WRAPPERS,
        """\
            break

    return result, await flush_failed(cpu, domain, page_order, result, flush_type)""",
        """\
            break

    return result, flush_type""",
        "unmap_again_page_by_page",
        "revision=flush_on_error",
    ),
    # A flush of the whole domain
    Mutant(
        "merged: the wrapper flush_all does nothing",
        MERGED_WRAPPERS,
        FLUSH_ALL,
        "    return OK\n",
        "batch_flushes_whole_domain",
        "revision=merged",
    ),
    Mutant(
        "v1: the wrapper flush_all does nothing",
        V1_WRAPPERS,
        FLUSH_ALL,
        "    return OK\n",
        "batch_flushes_whole_domain",
        "revision=v1",
    ),
    Mutant(
        "merged: the hook flush_all does nothing",
        MERGED_HOOKS,
        "return await iommu_flush_iotlb(cpu, self.driver, domain, INVALID_DFN, old_present=False, page_count=0)",
        "return OK",
        "batch_flushes_whole_domain",
        "revision=merged",
    ),
    Mutant(
        "merged: the hook flush_all flushes one page",
        MERGED_HOOKS,
        "domain, INVALID_DFN, old_present=False, page_count=0)",
        "domain, Dfn(0), old_present=True, page_count=1)",
        "batch_flushes_whole_domain",
        "revision=merged",
    ),
    # The error of a flush
    Mutant(
        "merged: map ignores the flush's error",
        MERGED_WRAPPERS,
        LEGACY_MAP,
        """\
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb):
        await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
""",
        "timeout_of_flush",
        "revision=merged",
    ),
    Mutant(
        "v1: map ignores the flush's error",
        V1_WRAPPERS,
        """\
        result = await domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count(page_order)), flush_type)
""",
        """\
        await domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count(page_order)), flush_type)
""",
        "timeout_of_flush",
        "revision=v1",
    ),
    Mutant(
        "merged: an explicit flush ignores the error",
        MERGED_WRAPPERS,
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, count, flush_type)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result
""",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, count, flush_type)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return OK
""",
        "timeout_of_flush",
        "flusher=flush revision=merged",
    ),
    Mutant(
        "v1: an explicit flush ignores the error",
        V1_WRAPPERS,
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count), FlushType.MODIFIED)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result
""",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count), FlushType.MODIFIED)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return OK
""",
        "timeout_of_flush",
        "flusher=flush revision=v1",
    ),
    Mutant(
        "merged: flush_all ignores the error",
        MERGED_WRAPPERS,
        FLUSH_ALL,
        """\
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return OK
""",
        "timeout_of_flush",
        "flusher=flush-all revision=merged",
    ),
    Mutant(
        "merged: unmap ignores the flush's error",
        MERGED_WRAPPERS,
        LEGACY_UNMAP,
        """\
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb):
        await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
""",
        "timeout_on_one_unit",
        "repaired=true revision=merged",
    ),
    # Permissions
    Mutant(
        "merged: every map is writable",
        MERGED_HOOKS,
        "write=MapFlags.WRITABLE in flags",
        "write=True",
        "write_permission_taken_away",
        "revision=merged",
    ),
    Mutant(
        "v1: every map is writable",
        V1_HOOKS,
        "write=MapFlags.WRITABLE in flags",
        "write=True",
        "write_permission_taken_away",
        "revision=v1",
    ),
    Mutant(
        "merged: the same frame needs no store",
        MERGED_HOOKS,
        "if old == new:",
        """\
if decode_pte(old, 1) is not None and old & ~3 == new & ~3:
                return OK, FlushType.NONE
            if old == new:""",
        "write_permission_taken_away",
        "revision=merged",
    ),
    Mutant(
        "merged: the same frame needs no flush",
        MERGED_HOOKS,
        REPORT,
        REPORT_OF_FRAME,
        "write_permission_taken_away",
        "revision=merged",
    ),
    Mutant(
        "v1: the same frame needs no flush",
        V1_HOOKS,
        REPORT,
        REPORT_OF_FRAME,
        "write_permission_taken_away",
        "revision=v1",
    ),
    Mutant(
        "merged: a change of permissions counts as added",
        MERGED_HOOKS,
        REPORT,
        "return OK, FlushType.ADDED if decode_pte(old, 1) is None or old & ~3 == new & ~3 else FlushType.MODIFIED",
        "write_permission_taken_away",
        "revision=merged",
    ),
    # An unmap and the mapping_lock
    Mutant(
        "merged: unmap_page takes no lock",
        MERGED_HOOKS,
        LOCKED,
        "if True:",
        "unmap_from_dying_domain",
        "repaired=true revision=merged",
    ),
    Mutant(
        "v1: unmap_page takes no lock",
        V1_HOOKS,
        LOCKED,
        "if True:",
        "unmap_from_dying_domain",
        "repaired=true revision=v1",
    ),
    Mutant(
        "merged: unmap_page stores after the unlock",
        MERGED_HOOKS,
        CLEAR,
        CLEAR_UNLOCKED,
        "unmap_from_dying_domain",
        "repaired=true revision=merged",
    ),
    Mutant(
        "v1: unmap_page stores after the unlock",
        V1_HOOKS,
        CLEAR,
        CLEAR_UNLOCKED,
        "unmap_from_dying_domain",
        "repaired=true revision=v1",
    ),
    # A detach
    Mutant(
        "detach without a flush",
        ASSIGNMENT,
        "return await flush_device(cpu, driver, iommu, did, device, non_present=False)",
        "return OK",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach with a context flush only",
        ASSIGNMENT,
        FLUSH_DEVICE,
        """\
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = OK
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach with an IOTLB flush only",
        ASSIGNMENT,
        FLUSH_DEVICE,
        """\
    result = OK
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach flushes the IOTLB first",
        ASSIGNMENT,
        FLUSH_DEVICE,
        """\
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach flushes before it clears the entry",
        ASSIGNMENT,
        """\
        await write_context(cpu, driver, device, [(0, 0), (1, 0)])
        did = await iommu.domids.find(domain.number)
        if did is None:
            return EINVAL
        return await flush_device(cpu, driver, iommu, did, device, non_present=False)
""",
        """\
        did = await iommu.domids.find(domain.number)
        if did is None:
            return EINVAL
        result = await flush_device(cpu, driver, iommu, did, device, non_present=False)
        await write_context(cpu, driver, device, [(0, 0), (1, 0)])
        return result
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach ignores the flush's error",
        ASSIGNMENT,
        "return min(result, error, OK)",
        "return OK",
        "free_after_detach",
        "repaired=true",
    ),
    # Domain ids
    Mutant(
        "a detach always frees the id",
        ASSIGNMENT,
        "if not await FindDevice(domain, others):",
        "if True:",
        "detach_one_of_two_devices",
    ),
    Mutant(
        "an id's bit before its owner",
        "emu/hypervisor/vtd/domain_ids.py",
        """\
            await self.owner(did).write(domain)
            await self.taken.set(did)
""",
        """\
            await self.taken.set(did)
            await self.owner(did).write(domain)
""",
        "freed_id_matches_domain_0",
    ),
    # The status word
    Mutant(
        "the status word is not reset",
        "emu/hypervisor/vtd/queue.py",
        "    await cpu.store32(address, QINVAL_STAT_INIT)\n",
        "",
        "free_page_after_page",
    ),
    # Write-back
    Mutant(
        "merged: unmap without a write-back",
        MERGED_HOOKS,
        CLEAR,
        CLEAR_ONLY,
        "free_page_after_page",
        "coherent=false revision=merged",
    ),
    Mutant(
        "merged: unmap writes back before the store",
        MERGED_HOOKS,
        CLEAR,
        CLEAR_LAST,
        "free_page_after_page",
        "coherent=false revision=merged",
    ),
    Mutant(
        "v1: unmap without a write-back",
        V1_HOOKS,
        CLEAR,
        CLEAR_ONLY,
        "free_page_after_page",
        "coherent=false revision=v1",
    ),
    Mutant(
        "v1: unmap writes back before the store",
        V1_HOOKS,
        CLEAR,
        CLEAR_LAST,
        "free_page_after_page",
        "coherent=false revision=v1",
    ),
    Mutant(
        "merged: map without a write-back",
        MERGED_HOOKS,
        STORE,
        STORE_ONLY,
        "batch_flushes_whole_domain",
        "coherent=false revision=merged",
    ),
    Mutant(
        "merged: map writes back before the store",
        MERGED_HOOKS,
        STORE,
        STORE_LAST,
        "batch_flushes_whole_domain",
        "coherent=false revision=merged",
    ),
    Mutant(
        "v1: map without a write-back",
        V1_HOOKS,
        STORE,
        STORE_ONLY,
        "batch_flushes_whole_domain",
        "coherent=false revision=v1",
    ),
    Mutant(
        "v1: map writes back before the store",
        V1_HOOKS,
        STORE,
        STORE_LAST,
        "batch_flushes_whole_domain",
        "coherent=false revision=v1",
    ),
    Mutant(
        "nothing is written back",
        "emu/hypervisor/vtd/flush.py",
        "        await WriteBack(cpu.memory, address)\n",
        "        pass\n",
        "free_page_after_page",
        "coherent=false",
    ),
    Mutant(
        "a detach does not write the context entry back",
        ASSIGNMENT,
        "    await iommu_flush_cache_entry(cpu, driver, address)\n",
        "",
        "free_after_detach",
        "coherent=false repaired=true",
    ),
    # No memory
    Mutant(
        "merged: a map without memory succeeds",
        MERGED_HOOKS,
        "return ENOMEM, FlushType.NONE",
        "return OK, FlushType.NONE",
        "first_map_under_new_table",
        "allocation_faults=1 revision=merged",
    ),
    Mutant(
        "v1: a map without memory succeeds",
        V1_HOOKS,
        "return ENOMEM, FlushType.NONE",
        "return OK, FlushType.NONE",
        "first_map_under_new_table",
        "allocation_faults=1 revision=v1",
    ),
    # Checks that look at one place only
    Mutant(
        "old paths at the first unit only",
        PROMISES,
        "for unit in units for root in domain.roots for tables in unit.tables_at(root)]",
        "for unit in units[:1] for root in domain.roots for tables in unit.tables_at(root)]",
        "grant_mapped_twice",
        "units=2",
    ),
    Mutant(
        "the first page of a call only",
        PROMISES,
        """\
        for dfn, update in record.updates.items():
            if record.result == OK or""",
        """\
        for dfn, update in list(record.updates.items())[:1]:
            if record.result == OK or""",
        "flush_misses_last_page",
    ),
    Mutant(
        "the debt of the first page only",
        PROMISES,
        "            if not self.is_known(owed) and",
        "            if owed.dfn == min(record.updates) and not self.is_known(owed) and",
        "flush_misses_last_page",
    ),
    Mutant(
        "a debt that is paid late is no debt",
        PROMISES,
        "        self.debts.remove(record)\n",
        """\
        self.debts.remove(record)
        return
""",
        "flush_after_continuation",
    ),
    Mutant(
        "the first page at which a frame was entered only",
        "emu/checks/releases.py",
        "for domain in domains for dfn in domain.ever_mapped.get(page.mfn, ())]",
        "for domain in domains for dfn in list(domain.ever_mapped.get(page.mfn, ()))[:1]]",
        "grant_mapped_twice",
        "release=true",
    ),
    Mutant(
        "a frame in reach at its first page only",
        "emu/checks/isolation.py",
        "            for dfn in domain.ever_mapped.get(mfn, ()):\n",
        "            for dfn in list(domain.ever_mapped.get(mfn, ()))[:1]:\n",
        "grant_mapped_twice",
    ),
    Mutant(
        "a late access to the first page only",
        "emu/checks/usage.py",
        "        if broken and entry.permits(",
        "        if broken and request.dfn == 0x1000 and entry.permits(",
        "write_in_flight",
        "order=1 drain=false release=false",
    ),
    Mutant(
        "a foreign access of the first device only",
        "emu/checks/usage.py",
        "        if request.programmed_by is not None and entry.permits(",
        '        if self.names[request.source_id] == "00:1f.0" and entry.permits(',
        "device_returned_with_writes_queued",
        "devices=2 synchronous=true walk_at_once=true",
    ),
    Mutant(
        "the first frame of a superpage only",
        "emu/hypervisor/pages.py",
        "in enumerate(frames_of(mfn, order)):",
        "in enumerate(frames_of(mfn, 0)):",
        f"{SUPERPAGES}test_each_frame_of_a_superpage_must_be_the_domains_or_let_to_it",
    ),
    Mutant(
        "a word of a superpage says what a table's word would",
        "emu/hypervisor/charging.py",
        " and address_frame(address) in TABLE_FRAMES",
        "",
        f"{SUPERPAGES}test_a_revision_that_takes_a_superpage_for_a_table_does_not_do_what_it_says",
    ),
    Mutant(
        "the window of a superpage closes with its first page",
        "emu/analysis/windows.py",
        "            if not left or not change.is_leaf:\n",
        "            if left:\n",
        f"{SUPERPAGES}test_the_window_of_a_superpage_closes_when_each_of_its_pages_is_flushed",
    ),
    # Hardware
    Mutant(
        "a unit caches superpages as a whole only",
        "emu/iommus/iotlb.py",
        "return 0 if self.is_fractured else self.translation.order",
        "return self.translation.order",
        "tests/iommus/test_fractured.py::test_an_exploration_finds_that_a_device_uses_the_piece_that_was_left",
    ),
    Mutant(
        "an invalidation counts from its completion",
        "emu/iommus/invalidation.py",
        "self.unit.ledger.complete(self.start, covered.tag,",
        "self.unit.ledger.complete(step, covered.tag,",
        "tests/iommus/vtd/test_invalidation.py::test_the_ledger_counts_an_invalidation_from_its_start",
    ),
    Mutant(
        "an invalidation of a page drops its neighbour too",
        "emu/iommus/vtd/engine.py",
        "    order = descriptor.address_mask\n",
        "    order = descriptor.address_mask + 1\n",
        "flush_misses_last_page",
    ),
    *AMD_MUTANTS,
    *SMMU_MUTANTS,
    *P2M_MUTANTS,
]
