"""Giving up a domain's tables after an error, before a device uses them (Xen: iommu.c, iommu_teardown).

So nobody rolls back what was mapped. Not modelled: that a tasklet frees the tables afterwards.
"""

from emu.hypervisor.domain import Domain


async def iommu_teardown(domain: Domain) -> None:
    """Note that no device will use the domain's tables (Xen: iommu.c, iommu_teardown)."""
    await domain.is_torn_down.write(True)
