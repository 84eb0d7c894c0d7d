"""Xen today (2026), as far as an SMMUv3 needs it: hooks take an order, and a failed call of several pages flushes.

The seed patch and what became of it are compared by the other revisions. Of hooks this one has those in smmuv3.py
alone, beside iommu.py and p2m.py.
"""

COMMIT = "c447b7308b"
