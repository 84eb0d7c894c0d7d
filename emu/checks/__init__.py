"""Checks: what software promised, held against what hardware may do. They read, and never change what they judge."""
