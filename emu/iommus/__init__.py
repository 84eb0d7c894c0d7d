"""IOMMUs: hardware only. Nothing here knows of hypervisors, or of promises that software makes.

unit.py       the protocol of a unit, whatever the vendor
settings.py   how a field of a unit's settings is declared
formats.py    the format of a vendor's page tables; translations
walk.py       the walk of page tables, one word a step
pass_through.py  letting a request through untranslated
walk_cache.py the table entries that a unit really caches, and at which a walk may start
requests.py   the requests of devices in flight, and when a walk is void
ring.py       the ring by which software hands commands to a unit
synchronous.py  executing commands in the step that posts them
invalidation.py  the steps of an invalidation: it begins, drops, completes
device_entries.py  devices' own entries where a unit keeps them in a table; their cache
entry_invalidation.py  the invalidation of such an entry, and the commands that a wait completes
unit_by_tag.py  a unit that finds cached translations by the tag of a device's tables
unit_by_entry.py  such a unit that caches devices' entries
status.py     the status words that a unit writes
iotlb.py      the entries that a unit really caches
counters.py   what a unit was asked to do, counted
ledger.py     the translations that a unit may legally use; the next three files are its parts
paths.py      the reads by which a walk may have found a translation
completed_invalidations.py  the completed invalidations of a unit
objects.py    the ledger's shared objects
vtd/          Intel VT-d
amd/          AMD-Vi
smmu/         Arm SMMU
"""
