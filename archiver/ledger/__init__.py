"""What we know: the only memory of the archiver."""
