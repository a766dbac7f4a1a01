"""Ledger, sidecars and store side by side, and what does not agree."""
