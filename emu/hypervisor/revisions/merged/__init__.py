"""Revision merged: what became of the seed patch (e8afe1124c, 2019). The callers of iommu_map flush, not iommu_map."""
