"""The seed patch as posted, "iommu: elide flushing for higher order map/unmap operations" (2018).

It was merged in another form only (`merged`), so it has no commit. Its diff begins at these blobs of Xen:
drivers/passthrough/iommu.c ac62d7f52a, drivers/passthrough/vtd/iommu.c 1601278b07, drivers/passthrough/x86/iommu.c
c68a72279d and drivers/passthrough/arm/smmu.c 9612c0fddc, all of them older than cbe21fd047.
"""

COMMIT = None
