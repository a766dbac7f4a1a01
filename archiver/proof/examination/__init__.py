"""Examines the PBX for `doctor`: what keeps a run from working, and how this PBX behaves where its makers are silent."""
