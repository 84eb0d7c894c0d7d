"""VT-d hooks, unchanged since they were merged."""

from emu.hypervisor.revisions.merged.vtd import IntelIommuOps

__all__ = ["IntelIommuOps"]
