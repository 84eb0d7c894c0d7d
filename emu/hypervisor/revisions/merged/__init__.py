"""The seed patch as merged (2019): iommu_map and iommu_unmap report what to flush, and their callers flush."""

COMMIT = "e8afe1124c"
