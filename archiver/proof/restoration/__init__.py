"""A ledger out of what lies in a store or a folder."""
