"""AMD-Vi hooks, unchanged since they were merged."""

from emu.hypervisor.revisions.merged.amd import AmdIommuOps

__all__ = ["AmdIommuOps"]
