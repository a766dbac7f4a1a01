"""Carries recordings from the PBX to the store: producer, bounded queue, workers, one TaskGroup."""
