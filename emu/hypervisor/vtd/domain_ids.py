"""The domain ids of one unit: which are taken, and by which domain (Xen: vtd/iommu.h, domid_bitmap and domid_map).

An id tags the entries that the unit caches for a domain. The bitmap and the map are two objects, and each read and each
change of either is a step: a CPU that looks an id up may see one changed and the other not.
"""

from emu.engine import Variable
from emu.errors import LimitReached
from emu.hypervisor.bitmaps import Bitmap

NDOMS = 64
"""How many ids a unit has (CAP.ND = 1)."""

FIRST_DID = 1
"""The lowest id given to a domain. Id 0 belongs to the hardware domain, whose tables are not modelled; in caching mode
it tags non-present context entries (section 6.2.2.1)."""

DOMID_INVALID = 0x7FF4
"""The map's entry for a free id since XSA-399: no domain's number. Before, it was 0, the hardware domain's number."""


class DomainIds:
    """The ids of one unit.

    Args:
        unit: its name.

    Attributes:
        taken: one bit for each id that is in use.
        owners: the number of the domain that has an id; valid while the bit of the id is set.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.taken = Bitmap(f"{unit}.domid_bitmap")
        self.owners: dict[int, Variable[int]] = {}

    def owner(self, did: int) -> Variable[int]:
        """Return the map's entry of an id."""
        if did not in self.owners:
            self.owners[did] = Variable(f"{self.unit}.domid_map[{did}]", 0)
        return self.owners[did]

    def peek(self, domain: int) -> int | None:
        """Return a domain's id; None if it has none. Takes no step."""
        owned = (did for did in range(NDOMS) if self.taken.has(did) and self.owner(did).value == domain)
        return next(owned, None)

    def put(self, domain: int) -> int:
        """Return a domain's id, or take one for it, before the first step (Xen: vtd/iommu.c, context_set_domain_id)."""
        did = self.peek(domain)
        if did is None:
            did = self.first_free(self.taken.value)
            self.taken.put(did)
            self.owner(did).value = domain
        return did

    async def find(self, domain: int) -> int | None:
        """Return a domain's id; None if it has none (Xen: vtd/iommu.c, domain_iommu_domid)."""
        taken = await self.taken.read()
        for did in range(NDOMS):
            if taken >> did & 1 and await self.owner(did).read() == domain:
                return did
        return None

    async def take(self, domain: int) -> int:
        """Return a domain's id, or take one for it, under the unit's lock (Xen: vtd/iommu.c, context_set_domain_id)."""
        did = await self.find(domain)
        if did is None:
            did = self.first_free(await self.taken.read())
            await self.owner(did).write(domain)
            await self.taken.set(did)
        return did

    async def give_back(self, did: int, *, map_first: bool) -> None:
        """Free an id, without a lock (Xen: vtd/iommu.c, in cleanup_domid_map).

        Args:
            map_first: clear the map's entry before the bit, so that no other domain takes the id meanwhile (XSA-399).
        """
        if map_first:
            await self.owner(did).write(DOMID_INVALID)
            await self.taken.clear(did)
        else:
            await self.taken.clear(did)
            await self.owner(did).write(0)

    def first_free(self, taken: int) -> int:
        """Return the lowest id that is free (Xen: vtd/iommu.c, in context_set_domain_id).

        Raises:
            LimitReached: if no id is free.
        """
        for did in range(FIRST_DID, NDOMS):
            if not taken >> did & 1:
                return did
        raise LimitReached(f"all {NDOMS - FIRST_DID} domain ids of {self.unit} are in use: use fewer domains")
