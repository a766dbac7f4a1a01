"""Where media rest: one promise (`base`), kept by each store."""
