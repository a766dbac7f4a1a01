"""Work on many machines, handed to a running Dask scheduler; all that matters stands in the ledger, not there."""
