"""Mutants of SMMUs: wrong patches of their hardware, and of the part of their driver that attaches devices."""

from tests.mutants.mutant import Mutant

UNIT, BY_TAG = "emu/iommus/smmu/", "emu/iommus/unit_by_tag.py"
ENGINE, FORMATS, QUEUE = f"{UNIT}engine.py", f"{UNIT}formats.py", f"{UNIT}queue.py"
REGISTERS, STATE, UNITS, WALK = f"{UNIT}registers.py", f"{UNIT}state.py", f"{UNIT}unit.py", f"{UNIT}walk.py"

TESTS = "tests/iommus/smmu/"
OF_ENGINE, OF_FORMATS = f"{TESTS}test_engine.py::test_", f"{TESTS}test_formats.py::test_"
OF_INVALIDATION, OF_REGISTERS = f"{TESTS}test_invalidation.py::test_", f"{TESTS}test_registers.py::test_"
OF_SYNCHRONOUS, OF_WALK = f"{TESTS}test_synchronous.py::test_", f"{TESTS}test_walk.py::test_"
OF_DRAIN = (
    f"{OF_ENGINE}a_synchronisation_has_drained_what_an_invalidation_before_it_dropped_the_translation_of_if_units_drain"
)

SMMU_MUTANTS = [
    # Formats
    Mutant(
        "a block stands at level 4",
        FORMATS,
        "if not (is_page or level in BLOCK_LEVELS) or not word & ACCESS_FLAG:",
        "if not (is_page or level > 1) or not word & ACCESS_FLAG:",
        f"{OF_FORMATS}no_block_stands_at_level_4",
    ),
    Mutant(
        "the access flag does not count",
        FORMATS,
        "if not (is_page or level in BLOCK_LEVELS) or not word & ACCESS_FLAG:",
        "if not (is_page or level in BLOCK_LEVELS):",
        f"{OF_WALK}a_fault_is_not_cached_be_the_leaf_not_valid_or_its_access_flag_clear",
    ),
    Mutant(
        "S2AP counts in tables",
        FORMATS,
        "return Entry(Maddr(word & ADDRESS), level - 1, 0, True, True)",
        "return Entry(Maddr(word & ADDRESS), level - 1, 0, bool(word & S2AP_READ), bool(word & S2AP_WRITE))",
        f"{OF_FORMATS}the_access_flag_and_s2ap_count_in_leaves_alone",
    ),
    Mutant(
        "all tables at the top have nine bits of index",
        FORMATS,
        "top = ipa_bits - PAGE_SHIFT - FULL_BITS * (levels - 1)",
        "top = FULL_BITS",
        f"{OF_WALK}each_of_the_tables_at_the_top_translates_its_own_pages",
    ),
    Mutant(
        "a stream matches by the bits of the mask",
        FORMATS,
        "STREAM_ID_MASK & ~mask\n",
        "STREAM_ID_MASK & mask\n",
        f"{OF_FORMATS}a_stream_matches_if_it_equals_the_id_in_all_bits_that_the_mask_leaves",
    ),
    # Registers
    Mutant(
        "the first of two registers that match wins",
        REGISTERS,
        "        if len(found) != 1:\n",
        "        if not found:\n",
        f"{OF_REGISTERS}a_stream_that_matches_two_registers_faults_though_both_say_the_same",
    ),
    Mutant(
        "a bank that is not enabled translates",
        REGISTERS,
        "if bank.is_enabled else untranslated()), read",
        "if bank else untranslated()), read",
        f"{OF_REGISTERS}a_stream_of_a_bank_that_is_not_enabled_passes_untranslated",
    ),
    Mutant(
        "replaced tables end with their replacement",
        UNITS,
        "until=inf if until == inf else dropped(tables.tag, until))",
        "until=until)",
        f"{OF_REGISTERS}a_change_of_registers_alone_lets_requests_go_on_that_were_accepted_before",
    ),
    Mutant(
        "which tables translate does not depend on invalidations",
        UNITS,
        "replaced = (tables for tables, _, until in self.registers.lifetimes(source_id) if until < inf)",
        "replaced = (tables for tables, _, until in self.registers.lifetimes(source_id) if until < 0)",
        f"{TESTS}test_soundness.py::test_every_class_of_a_program_is_explored_once_and_has_one_verdict",
    ),
    # Requests to the TLB
    Mutant(
        "a synchronisation completes before what it must drain",
        ENGINE,
        "            await begun.complete()\n        await CompleteSync(",
        "            pass\n        await CompleteSync(",
        OF_DRAIN,
    ),
    Mutant(
        "units drain whatever is set",
        ENGINE,
        "        return self.unit.settings.drain\n",
        "        return True\n",
        OF_DRAIN,
    ),
    Mutant(
        "nothing begins before the synchronisation ahead of it has completed",
        ENGINE,
        'if has_next and await Choose("synchronisation or next request first", 2):',
        "if has_next and False:",
        f"{OF_ENGINE}both_orders_of_a_synchronisation_and_a_later_invalidation_are_explored",
    ),
    Mutant(
        "a poll ends with the first synchronisation",
        QUEUE,
        "        self.registers.active -= 1\n",
        "        self.registers.active = 0\n",
        f"{OF_ENGINE}the_synchronisation_of_a_second_cpu_prolongs_the_poll_of_the_first_one",
    ),
    Mutant(
        "an invalidation of everything is one of number 0",
        ENGINE,
        "None if asked == ALL else asked",
        "0 if asked == ALL else asked",
        f"{OF_INVALIDATION}tlbivmid_removes_all_of_its_vmid_and_tlbiallnsnh_all_of_every_vmid",
    ),
    Mutant(
        "cached table entries stay",
        ENGINE,
        "Dfn(0), None, leaf_only=False)",
        "Dfn(0), None, leaf_only=True)",
        f"{OF_INVALIDATION}tlbivmid_removes_all_of_its_vmid_and_tlbiallnsnh_all_of_every_vmid",
    ),
    # Walks
    Mutant(
        "SMMU translations are found by device",
        BY_TAG,
        "request.user = request.tag = request.tables.tag",
        "request.user, request.tag = request.source_id, request.tables.tag",
        f"{OF_WALK}devices_of_one_vmid_find_what_the_others_have_cached",
    ),
    Mutant(
        "an SMMU caches faults",
        BY_TAG,
        "caches, cache = self.ledger.caches_non_present, self.walk_cache",
        "caches, cache = True, self.walk_cache",
        f"{OF_WALK}a_fault_is_not_cached_be_the_leaf_not_valid_or_its_access_flag_clear",
    ),
    Mutant(
        "an address beyond the reach of an SMMU's tables is translated",
        BY_TAG,
        "if tables is None or not 0 <= request.dfn < self.format.reach(tables.levels):",
        "if tables is None:",
        f"{OF_WALK}the_last_page_within_reach_is_translated_and_the_next_one_is_not",
    ),
    Mutant(
        "a lookup by registers that were replaced goes on",
        BY_TAG,
        "            lookup = LookupByTag(self.iotlb, request, self.has_lost_tables)\n",
        "            lookup = LookupByTag(self.iotlb, request, lambda _: False)\n",
        f"{OF_WALK}what_another_device_has_cached_since_is_not_found_by_the_old_registers_after_an_invalidation",
    ),
    Mutant(
        "a walk by registers that were replaced fills",
        STATE,
        "        return before != now\n",
        "        return False\n",
        f"{OF_WALK}a_request_that_has_read_the_old_registers_begins_again_after_an_invalidation_of_its_vmid",
    ),
    Mutant(
        "a walk goes on from an SMMU's start below another root that was dropped",
        STATE,
        "if self.requests.has_dropped_start(request) and self.is_from_another_root(request):",
        "if request.dfn < 0:",
        f"{OF_WALK}a_walk_from_an_entry_that_was_cached_below_another_root_begins_again_when_the_entry_is_dropped",
    ),
    Mutant(
        "units without an engine of their own have one",
        UNITS,
        "        if settings.synchronous:\n",
        "        if settings.walk_at_once:\n",
        f"{OF_SYNCHRONOUS}what_is_asked_for_has_been_executed_by_the_end_of_the_step_that_asks_for_it",
    ),
    # The driver
    Mutant(
        "streams do not fault from the reset on",
        "emu/hypervisor/smmu/driver.py",
        "        reset(unit.registers)\n",
        "",
        f"{OF_REGISTERS}a_stream_faults_from_the_reset_on_though_a_register_matches_it_until_its_s2cr_says_otherwise",
    ),
]
