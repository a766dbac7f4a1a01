"""Call records against listing, ledger and store: is anything missing that the PBX knows of?"""
