"""The verdict table: each scenario that comes with emu, with parameters, on each revision."""

TABLE = """
remap_before_flush                                        | stale       | stale       | stale
remap_before_flush order=1                                | stale       | clean       | clean
unmap_twice_before_flush                                  | stale       | clean       | stale
unmap_twice_before_flush coherent=false                   | stale       | stale       | stale
remap_before_flush outer_lock=per-call                    | clean       | clean       | clean
unmap_twice_before_flush outer_lock=per-call              | clean       | clean       | clean
replace_while_device_reads                                | clean       | clean       | clean
map_same_frame_before_flush                               | stale       | stale       | stale
map_same_frame_before_flush order=1                       | stale       | stale       | stale
map_into_flagged_region change=unmap                      | stale       | clean       | stale
map_into_flagged_region change=replace                    | stale       | stale       | stale
map_into_flagged_region change=unmap outer_lock=none      | stale       | stale       | stale
map_into_flagged_region change=unmap outer_lock=across-flush   | clean  | clean       | clean
map_into_flagged_region change=replace outer_lock=across-flush | clean  | clean       | clean
flag_left_set later=unmap                                 | owed        | clean       | owed
flag_left_set later=replace                               | owed        | owed        | owed
flag_left_set later=unmap repaired=true                   | clean       | clean       | clean
flag_left_set later=replace repaired=true                 | clean       | clean       | clean
softirq_in_flagged_loop                                   | owed        | owed        | owed
softirq_in_flagged_loop repaired=true                     | clean       | clean       | clean
map_dma_unmap_dma                                         | clean       | clean       | clean
map_dma_unmap_dma caching_mode=true                       | stale-fault | stale-fault | stale-fault
map_dma_unmap_dma caching_mode=true order=1               | stale-fault | clean       | clean
map_dma_unmap_dma caching_mode=true repaired=true         | clean       | clean       | clean
map_fails_halfway                                         | clean       | lost-error  | clean
free_before_flush                                         | released    | clean       | released
free_before_flush repaired=true                           | clean       | clean       | clean
displace_while_moving                                     | released    | clean       | released
displace_while_moving form=2020-1                         | clean       | clean       | clean
remove_moved_page                                         | released    | clean       | released
remove_moved_page form=2020-2                             | clean       | clean       | clean
remove_moved_page form=2020-2 coherent=false              | clean       | clean       | clean
flag_left_set later=remove                                | released    | clean       | released
flag_left_set later=remove repaired=true                  | clean       | clean       | clean
softirq_in_flagged_loop release=true                      | released    | released    | released
softirq_in_flagged_loop release=true repaired=true        | clean       | clean       | clean
unmap_claims_nothing_was_there                            | stale       | stale       | stale
unmap_claims_nothing_was_there repaired=true              | clean       | clean       | clean
unmap_fails_halfway                                       | clean       | released    | clean
timeout_on_one_unit                                       | stale       | stale       | stale
timeout_on_one_unit repaired=true                         | clean       | clean       | clean
domain_id_freed_too_early                                 | stale       | stale       | stale
domain_id_freed_too_early repaired=true                   | clean       | clean       | clean
device_returned_with_writes_queued                        | foreign-access | foreign-access | foreign-access
device_returned_with_writes_queued repaired=true          | clean       | clean       | clean
write_in_flight                                           | clean       | clean       | clean
write_in_flight drain=false                               | late-access | late-access | late-access
flush_after_continuation                                  | owed        | owed        | owed
flush_after_continuation repaired=true                    | clean       | clean       | clean
table_freed_before_flush                                  | released    | released    | released
table_freed_before_flush repaired=true                    | clean       | clean       | clean
move_more_than_fit slots=1                                | overrun     | overrun     | overrun
move_more_than_fit slots=1 form=2020-3                    | clean       | clean       | clean
failed_map_leaves_entries                                 | released    | clean       | released
map_into_dying_domain                                     | freed-table | freed-table | freed-table
map_into_dying_domain repaired=true                       | clean       | clean       | clean
first_map_under_new_table                                 | clean       | clean       | clean
first_map_under_new_table widen=fault                     | stale-fault | stale-fault | stale-fault
first_map_under_new_table widen=fault neighbour=true      | clean       | clean       | clean
unmap_twice_before_flush order=1 hole=true                | stale       | clean       | stale
unmap_twice_before_flush order=1 hole=true coherent=false | stale       | stale       | stale
unmap_twice_before_flush order=1 hole=true outer_lock=per-call | clean  | clean       | clean
domain_id_freed_too_early units=2                         | stale       | stale       | stale
domain_id_freed_too_early units=2 repaired=true           | clean       | clean       | clean
map_dma_unmap_dma order=1 extend=true                    | clean       | clean       | clean
map_dma_unmap_dma order=1 extend=true caching_mode=true  | stale-fault | clean       | clean
map_dma_unmap_dma order=1 extend=true caching_mode=true repaired=true | clean | clean | clean
flush_misses_last_page                                    | owed        | owed        | owed
flush_misses_last_page repaired=true                      | clean       | clean       | clean
flush_misses_last_page release=true                       | released    | released    | released
flush_misses_last_page release=true repaired=true         | clean       | clean       | clean
roll_back_fails_halfway                                   | not-rolled-back | lost-error | not-rolled-back
hook_errs_on_last_page                                    | wrong-result | wrong-result | wrong-result
hook_errs_on_last_page repaired=true                      | clean       | clean       | clean
hook_errs_on_last_page error=overshoot                    | beyond-range | beyond-range | beyond-range
hook_errs_on_last_page error=clear-first                  | clean       | clean       | clean
hook_errs_on_last_page error=clear-first refuse_gaps=true | gap         | gap         | gap
hook_errs_on_last_page repaired=true refuse_gaps=true     | clean       | clean       | clean
write_in_flight order=1                                   | clean       | clean       | clean
write_in_flight order=1 drain=false                       | late-access | late-access | late-access
write_in_flight order=1 drain=false release=false         | late-access | late-access | late-access
map_into_dying_domain order=1                             | freed-table | freed-table | freed-table
map_into_dying_domain order=1 repaired=true               | clean       | clean       | clean
device_returned_with_writes_queued devices=2              | foreign-access | foreign-access | foreign-access
device_returned_with_writes_queued devices=2 repaired=true | clean      | clean       | clean
grant_mapped_twice                                        | not-isolated | not-isolated | not-isolated
grant_mapped_twice repaired=true                          | clean       | clean       | clean
grant_mapped_twice units=2                                | not-isolated | not-isolated | not-isolated
grant_mapped_twice release=true                           | released    | released    | released
grant_mapped_twice release=true units=2                   | released    | released    | released
grant_mapped_twice release=true repaired=true             | clean       | clean       | clean
free_all_but_one_page                                     | clean       | clean       | clean
free_all_but_one_page kept=0                              | clean       | clean       | clean
free_all_but_one_page change=replace                      | clean       | clean       | clean
free_all_but_one_page change=replace kept=0               | clean       | clean       | clean
failed_map_leaves_entries freed=new                       | released    | clean       | released
free_new_frames_after_error                               | clean       | lost-error  | clean
free_new_frames_after_error extend=true                   | clean       | lost-error  | clean
unmap_again_page_by_page                                  | clean       | released    | clean
batch_flushes_whole_domain                                | clean       | clean       | clean
batch_flushes_whole_domain coherent=false                 | clean       | clean       | clean
timeout_of_flush flusher=flush                            | clean       | clean       | clean
timeout_of_flush flusher=flush-all                        | clean       | clean       | clean
timeout_of_flush                                          | not-rolled-back | not-rolled-back | not-rolled-back
write_permission_taken_away                               | clean       | clean       | clean
unmap_from_dying_domain                                   | freed-table | freed-table | freed-table
unmap_from_dying_domain repaired=true                     | clean       | clean       | clean
free_after_detach                                         | released    | released    | released
free_after_detach repaired=true                           | clean       | clean       | clean
free_after_detach repaired=true coherent=false            | clean       | clean       | clean
detach_one_of_two_devices                                 | clean       | clean       | clean
freed_id_matches_domain_0                                 | clean       | clean       | clean
freed_id_matches_domain_0 beside=freed                    | stale       | stale       | stale
freed_id_matches_domain_0 beside=freed repaired=true      | clean       | clean       | clean
free_page_after_page                                      | clean       | clean       | clean
free_page_after_page coherent=false                       | clean       | clean       | clean
first_map_under_new_table allocation_faults=1             | clean       | lost-error  | clean
"""
"""The verdict on each revision: implicit, v1, merged.

An entry that is not written back, or before its store, shows with coherent=false only; an allocation that fails and is
called a success shows with allocation_faults=1 only.
"""

CELLS = [
    (what.strip(), revision, verdict.strip())
    for what, *verdicts in (line.split("|") for line in TABLE.strip().splitlines())
    for revision, verdict in zip(("implicit", "v1", "merged"), verdicts, strict=True)
]

SINCE_FLUSH_ON_ERROR = [
    *((what, verdict) for what, revision, verdict in CELLS if revision == "merged" and "failed_map" not in what),
    ("failed_map_leaves_entries", "clean"),
    ("failed_map_leaves_entries freed=new", "clean"),
]
"""What revision flush_on_error has: the verdicts of merged, but for a map that fails halfway."""

TABLE_CELLS = [
    *(f"{what} revision={revision}" for what, revision, _ in CELLS),
    *(f"{what} revision=flush_on_error" for what, _ in SINCE_FLUSH_ON_ERROR),
]
"""Each cell as a user writes it."""
