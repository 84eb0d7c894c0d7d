"""The mutants that are tried: wrong patches of the wrappers, the hooks and the driver."""

from tests.mutants.mutant import Mutant

MUTANTS = [
    # The flush type of a range
    Mutant(
        "merged: map reports the last page's type",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
, Mfn(mfn + i), flags)
        flush_type = max(flush_type, this_flush_type)
""",
        """\
, Mfn(mfn + i), flags)
        flush_type = this_flush_type
""",
        "free_all_but_one_page",
        "change=replace revision=merged",
    ),
    Mutant(
        "merged: unmap reports the last page's type",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = max(flush_type, this_flush_type)
""",
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = this_flush_type
""",
        "free_all_but_one_page",
        "revision=merged",
    ),
    Mutant(
        "v1: map flushes by the last page's type",
        "emu/hypervisor/revisions/v1/iommu.py",
        "flush_type = max(flush_type, this_flush_type)",
        "flush_type = this_flush_type",
        "free_all_but_one_page",
        "change=replace revision=v1",
    ),
    Mutant(
        "merged: map keeps the first page's type",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
, Mfn(mfn + i), flags)
        flush_type = max(flush_type, this_flush_type)
""",
        """\
, Mfn(mfn + i), flags)
        flush_type = this_flush_type if i == 0 else flush_type
""",
        "free_all_but_one_page",
        "change=replace kept=0 revision=merged",
    ),
    Mutant(
        "merged: unmap keeps the first page's type",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = max(flush_type, this_flush_type)
""",
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = this_flush_type if i == 0 else flush_type
""",
        "free_all_but_one_page",
        "kept=0 revision=merged",
    ),
    Mutant(
        "merged: unmap reports the smallest type",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = max(flush_type, this_flush_type)
""",
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
        "emu/hypervisor/revisions/v1/iommu.py",
        """\
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
        await domain.ops.iotlb_flush_all(cpu, domain)
""",
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
        "emu/hypervisor/revisions/v1/iommu.py",
        """\
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
        await domain.ops.iotlb_flush_all(cpu, domain)
""",
        """\
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
""",
        "failed_map_leaves_entries",
        "freed=new revision=v1",
    ),
    Mutant(
        "flush_on_error: flush_all before the roll-back",
        "emu/hypervisor/revisions/flush_on_error/iommu.py",
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
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
            flush_type = max(flush_type, this_flush_type)
""",
        """\
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
""",
        "free_new_frames_after_error",
        "extend=true revision=merged",
    ),
    Mutant(
        "flush_on_error: the roll-back's type is dropped",
        "emu/hypervisor/revisions/flush_on_error/iommu.py",
        """\
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
            flush_type = max(flush_type, this_flush_type)
""",
        """\
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
""",
        "free_new_frames_after_error",
        "extend=true revision=flush_on_error",
    ),
    Mutant(
        "merged: no flush after a map that failed",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
""",
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
        "emu/hypervisor/revisions/flush_on_error/iommu.py",
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
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
""",
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
        "emu/hypervisor/revisions/v1/iommu.py",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count(page_order), FlushType.MODIFIED)
    return result  # noqa""",
        """\
    if result != OK:
        return result
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count(page_order), FlushType.MODIFIED)
    return result  # noqa""",
        "unmap_again_page_by_page",
        "revision=v1",
    ),
    Mutant(
        "flush_on_error: no flush after an unmap that failed",
        "emu/hypervisor/revisions/flush_on_error/iommu.py",
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
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
""",
        """\
    return OK
""",
        "batch_flushes_whole_domain",
        "revision=merged",
    ),
    Mutant(
        "v1: the wrapper flush_all does nothing",
        "emu/hypervisor/revisions/v1/iommu.py",
        """\
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
""",
        """\
    return OK
""",
        "batch_flushes_whole_domain",
        "revision=v1",
    ),
    Mutant(
        "merged: the hook flush_all does nothing",
        "emu/hypervisor/revisions/merged/vtd.py",
        "return await iommu_flush_iotlb(cpu, self.driver, domain, INVALID_DFN, old_present=False, page_count=0)",
        "return OK",
        "batch_flushes_whole_domain",
        "revision=merged",
    ),
    Mutant(
        "merged: the hook flush_all flushes one page",
        "emu/hypervisor/revisions/merged/vtd.py",
        "domain, INVALID_DFN, old_present=False, page_count=0)",
        "domain, Dfn(0), old_present=True, page_count=1)",
        "batch_flushes_whole_domain",
        "revision=merged",
    ),
    # The error of a flush
    Mutant(
        "merged: map ignores the flush's error",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
""",
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
        "emu/hypervisor/revisions/v1/iommu.py",
        """\
    if not await cpu.read(iommu_dont_flush_iotlb):
        result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
""",
        """\
    if not await cpu.read(iommu_dont_flush_iotlb):
        await domain.ops.iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
""",
        "timeout_of_flush",
        "revision=v1",
    ),
    Mutant(
        "merged: an explicit flush ignores the error",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, flush_type)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
""",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, flush_type)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return OK
""",
        "timeout_of_flush",
        "flusher=flush revision=merged",
    ),
    Mutant(
        "v1: an explicit flush ignores the error",
        "emu/hypervisor/revisions/v1/iommu.py",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, FlushType.MODIFIED)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
""",
        """\
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, FlushType.MODIFIED)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return OK
""",
        "timeout_of_flush",
        "flusher=flush revision=v1",
    ),
    Mutant(
        "merged: flush_all ignores the error",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
""",
        """\
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return OK
""",
        "timeout_of_flush",
        "flusher=flush-all revision=merged",
    ),
    Mutant(
        "merged: unmap ignores the flush's error",
        "emu/hypervisor/revisions/merged/iommu.py",
        """\
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
""",
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
        "emu/hypervisor/revisions/merged/vtd.py",
        "write=MapFlags.WRITABLE in flags",
        "write=True",
        "write_permission_taken_away",
        "revision=merged",
    ),
    Mutant(
        "v1: every map is writable",
        "emu/hypervisor/revisions/v1/vtd.py",
        "write=MapFlags.WRITABLE in flags",
        "write=True",
        "write_permission_taken_away",
        "revision=v1",
    ),
    Mutant(
        "merged: the same frame needs no store",
        "emu/hypervisor/revisions/merged/vtd.py",
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
        "emu/hypervisor/revisions/merged/vtd.py",
        "return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED",
        """\
if old & ~3 == new & ~3:
            return OK, FlushType.NONE
        return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED""",
        "write_permission_taken_away",
        "revision=merged",
    ),
    Mutant(
        "v1: the same frame needs no flush",
        "emu/hypervisor/revisions/v1/vtd.py",
        "return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED",
        """\
if old & ~3 == new & ~3:
            return OK, FlushType.NONE
        return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED""",
        "write_permission_taken_away",
        "revision=v1",
    ),
    Mutant(
        "merged: a change of permissions counts as added",
        "emu/hypervisor/revisions/merged/vtd.py",
        "return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED",
        "return OK, FlushType.ADDED if decode_pte(old, 1) is None or old & ~3 == new & ~3 else FlushType.MODIFIED",
        "write_permission_taken_away",
        "revision=merged",
    ),
    # An unmap and the mapping_lock
    Mutant(
        "merged: unmap_page takes no lock",
        "emu/hypervisor/revisions/merged/vtd.py",
        "async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):",
        "if True:",
        "unmap_from_dying_domain",
        "repaired=true revision=merged",
    ),
    Mutant(
        "v1: unmap_page takes no lock",
        "emu/hypervisor/revisions/v1/vtd.py",
        "async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):",
        "if True:",
        "unmap_from_dying_domain",
        "repaired=true revision=v1",
    ),
    Mutant(
        "merged: unmap_page stores after the unlock",
        "emu/hypervisor/revisions/merged/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
        await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        "unmap_from_dying_domain",
        "repaired=true revision=merged",
    ),
    Mutant(
        "v1: unmap_page stores after the unlock",
        "emu/hypervisor/revisions/v1/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
        await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        "unmap_from_dying_domain",
        "repaired=true revision=v1",
    ),
    # A detach
    Mutant(
        "detach without a flush",
        "emu/hypervisor/vtd/assignment.py",
        "return await flush_device(cpu, driver, iommu, did, device, non_present=False)",
        "return OK",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach with a context flush only",
        "emu/hypervisor/vtd/assignment.py",
        """\
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
""",
        """\
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = OK
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach with an IOTLB flush only",
        "emu/hypervisor/vtd/assignment.py",
        """\
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
""",
        """\
    result = OK
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach flushes the IOTLB first",
        "emu/hypervisor/vtd/assignment.py",
        """\
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
""",
        """\
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
""",
        "free_after_detach",
        "repaired=true",
    ),
    Mutant(
        "detach flushes before it clears the entry",
        "emu/hypervisor/vtd/assignment.py",
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
        "emu/hypervisor/vtd/assignment.py",
        "return min(result, error, OK)",
        "return OK",
        "free_after_detach",
        "repaired=true",
    ),
    # Domain ids
    Mutant(
        "a detach always frees the id",
        "emu/hypervisor/vtd/assignment.py",
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
        "emu/hypervisor/vtd/qinval.py",
        """\
    await cpu.store32(address, QINVAL_STAT_INIT)
""",
        "",
        "free_page_after_page",
    ),
    # Write-back
    Mutant(
        "merged: unmap without a write-back",
        "emu/hypervisor/revisions/merged/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
""",
        "free_page_after_page",
        "coherent=false revision=merged",
    ),
    Mutant(
        "merged: unmap writes back before the store",
        "emu/hypervisor/revisions/merged/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await iommu_flush_cache_entry(cpu, self.driver, address)
            await write_pte(cpu, domain, dfn, address, 0)
""",
        "free_page_after_page",
        "coherent=false revision=merged",
    ),
    Mutant(
        "v1: unmap without a write-back",
        "emu/hypervisor/revisions/v1/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
""",
        "free_page_after_page",
        "coherent=false revision=v1",
    ),
    Mutant(
        "v1: unmap writes back before the store",
        "emu/hypervisor/revisions/v1/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, 0)
        await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await iommu_flush_cache_entry(cpu, self.driver, address)
            await write_pte(cpu, domain, dfn, address, 0)
""",
        "free_page_after_page",
        "coherent=false revision=v1",
    ),
    Mutant(
        "merged: map without a write-back",
        "emu/hypervisor/revisions/merged/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, new)
            await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await write_pte(cpu, domain, dfn, address, new)
""",
        "batch_flushes_whole_domain",
        "coherent=false revision=merged",
    ),
    Mutant(
        "merged: map writes back before the store",
        "emu/hypervisor/revisions/merged/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, new)
            await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await iommu_flush_cache_entry(cpu, self.driver, address)
            await write_pte(cpu, domain, dfn, address, new)
""",
        "batch_flushes_whole_domain",
        "coherent=false revision=merged",
    ),
    Mutant(
        "v1: map without a write-back",
        "emu/hypervisor/revisions/v1/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, new)
            await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await write_pte(cpu, domain, dfn, address, new)
""",
        "batch_flushes_whole_domain",
        "coherent=false revision=v1",
    ),
    Mutant(
        "v1: map writes back before the store",
        "emu/hypervisor/revisions/v1/vtd.py",
        """\
            await write_pte(cpu, domain, dfn, address, new)
            await iommu_flush_cache_entry(cpu, self.driver, address)
""",
        """\
            await iommu_flush_cache_entry(cpu, self.driver, address)
            await write_pte(cpu, domain, dfn, address, new)
""",
        "batch_flushes_whole_domain",
        "coherent=false revision=v1",
    ),
    Mutant(
        "nothing is written back",
        "emu/hypervisor/vtd/flush.py",
        """\
        await WriteBack(cpu.memory, address)
""",
        """\
        pass
""",
        "free_page_after_page",
        "coherent=false",
    ),
    Mutant(
        "a detach does not write the context entry back",
        "emu/hypervisor/vtd/assignment.py",
        """\
    await iommu_flush_cache_entry(cpu, driver, address)
""",
        "",
        "free_after_detach",
        "coherent=false repaired=true",
    ),
    # No memory
    Mutant(
        "merged: a map without memory succeeds",
        "emu/hypervisor/revisions/merged/vtd.py",
        "return ENOMEM, FlushType.NONE",
        "return OK, FlushType.NONE",
        "first_map_under_new_table",
        "allocation_faults=1 revision=merged",
    ),
    Mutant(
        "v1: a map without memory succeeds",
        "emu/hypervisor/revisions/v1/vtd.py",
        "return ENOMEM, FlushType.NONE",
        "return OK, FlushType.NONE",
        "first_map_under_new_table",
        "allocation_faults=1 revision=v1",
    ),
    # Checks that look at one place only
    Mutant(
        "old paths at the first unit only",
        "emu/checks/promises.py",
        "for unit in units for tables in unit.tables_at(domain.pgd)]",
        "for unit in units[:1] for tables in unit.tables_at(domain.pgd)]",
        "grant_mapped_twice",
        "units=2",
    ),
    Mutant(
        "the first page of a call only",
        "emu/checks/promises.py",
        "        for dfn, update in record.updates.items():\n            if record.result == OK or",
        "        for dfn, update in list(record.updates.items())[:1]:\n            if record.result == OK or",
        "flush_misses_last_page",
    ),
    Mutant(
        "the debt of the first page only",
        "emu/checks/promises.py",
        "            if not self.is_known(owed) and",
        "            if owed.dfn == min(record.updates) and not self.is_known(owed) and",
        "flush_misses_last_page",
    ),
    Mutant(
        "a debt that is paid late is no debt",
        "emu/checks/promises.py",
        "        self.debts.remove(record)\n",
        "        self.debts.remove(record)\n        return\n",
        "flush_after_continuation",
    ),
    Mutant(
        "the first page at which a frame was entered only",
        "emu/checks/releases.py",
        "for domain in domains for dfn in domain.installed.get(page.mfn, ())]",
        "for domain in domains for dfn in list(domain.installed.get(page.mfn, ()))[:1]]",
        "grant_mapped_twice",
        "release=true",
    ),
    Mutant(
        "a frame in reach at its first page only",
        "emu/checks/isolation.py",
        "            for dfn in domain.installed.get(mfn, ()):\n",
        "            for dfn in list(domain.installed.get(mfn, ()))[:1]:\n",
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
        "            if domain != request.programmed_by:\n",
        '            if domain != request.programmed_by and device == "00:1f.0":\n',
        "device_returned_with_writes_queued",
        "devices=2 synchronous=true walk_at_once=true",
    ),
    # Hardware
    Mutant(
        "an invalidation counts from its completion",
        "emu/iommus/vtd/invalidation.py",
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
]
