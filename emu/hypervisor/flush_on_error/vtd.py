"""VT-d hooks, unchanged since they were merged."""

from emu.hypervisor.merged.vtd import IntelIommuOps

__all__ = ["IntelIommuOps"]
