"""AMD-Vi hooks, unchanged since they were merged."""

from emu.hypervisor.revisions.merged.amd import AmdIommuOps, amd_iommu_reserve_domain_unity_map

__all__ = ["AmdIommuOps", "amd_iommu_reserve_domain_unity_map"]
