"""Revision v1: the seed patch, "iommu: elide flushing for higher order map/unmap operations" (2018)."""
