"""As merged, with a repair (2020): a map or unmap of several pages that fails flushes the domain itself."""

COMMIT = "0229adb138"
