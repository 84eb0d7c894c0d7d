"""Xen just before the seed patch (2018): each hook of the driver flushes the page that it has changed."""

COMMIT = "cbe21fd047"
