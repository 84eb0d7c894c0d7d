"""The SMMUv3 driver without its hooks: a revision's smmuv3.py imports from here the parts that hooks use.

state.py       what the driver holds
queue.py       the command queue as the driver uses it
flush.py       flushes of the TLBs of SMMUs
stream_entries.py  storing stream table entries
assignment.py  attaching, detaching and moving devices
before_first_step.py  what stands there before the first step
driver.py      the driver, made of these

The p2m is that of every SMMU (emu/hypervisor/smmu). Xen's driver is of 2020, younger than the seed patch.
"""

from emu.hypervisor.smmu.v3.driver import Smmuv3Driver
from emu.hypervisor.smmu.v3.flush import arm_smmu_iotlb_flush_all

__all__ = ["Smmuv3Driver", "arm_smmu_iotlb_flush_all"]
