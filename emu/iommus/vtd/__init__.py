"""Intel VT-d in legacy mode: second-level translation, context cache, IOTLB and queued invalidation.

Sections refer to the Intel Virtualization Technology for Directed I/O specification, revision 5.10.
"""
