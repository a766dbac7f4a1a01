"""Reads the ledger and the store afterwards and proves that they agree."""
