"""Revision implicit: Xen just before the seed patch (cbe21fd047, 2018). Drivers flush page by page, unasked."""
