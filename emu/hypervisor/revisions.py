"""Revisions of the wrappers: which there are, and what one consists of."""

from collections.abc import Awaitable, Callable, Mapping

import attrs

import emu.hypervisor.v1.iommu
import emu.hypervisor.v1.vtd
from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import IommuOps, MapFlags
from emu.hypervisor.vtd import VtdDriver
from emu.units import Dfn, Mfn


@attrs.frozen
class Revision:
    """The callers' entry points of one revision, and its drivers."""

    name: str
    map: Callable[[Cpu, Domain, Dfn, Mfn, int, MapFlags], Awaitable[int]]
    unmap: Callable[[Cpu, Domain, Dfn, int], Awaitable[int]]
    flush: Callable[[Cpu, Domain, Dfn, int], Awaitable[int]]
    flush_all: Callable[[Cpu, Domain], Awaitable[int]]
    vtd_ops: Callable[[VtdDriver], IommuOps]


V1 = Revision(
    name="v1",
    map=emu.hypervisor.v1.iommu.iommu_map,
    unmap=emu.hypervisor.v1.iommu.iommu_unmap,
    flush=emu.hypervisor.v1.iommu.iommu_iotlb_flush,
    flush_all=emu.hypervisor.v1.iommu.iommu_iotlb_flush_all,
    vtd_ops=emu.hypervisor.v1.vtd.IntelIommuOps,
)

REVISIONS: Mapping[str, Revision] = {revision.name: revision for revision in (V1,)}
