"""IOMMUs: hardware only. Nothing here knows of hypervisors or of what software promised.

unit.py       what devices and checks need of a unit, whatever the vendor
settings.py   how a field of a unit's settings is declared
formats.py    the format of a vendor's page tables; what a walk yields
walk.py       the walk of page tables, one word a step
requests.py   the requests of devices in flight, and when a walk is void
status.py     the words by which a unit tells software that it is done
iotlb.py      the entries that a unit really caches
ledger.py     which translations a unit may legally use; from here on what the ledger is made of
paths.py      the ways by which a walk may have come to a translation
completed_invalidations.py  the completed invalidations of a unit
objects.py    the ledger's shared objects
vtd/          Intel VT-d
"""
