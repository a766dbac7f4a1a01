"""Exports: what is chosen of an archive, handed out as a BagIt bag that anybody can check."""
