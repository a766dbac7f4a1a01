"""The far side of the wire: signing in, asking, and turning the PBX's JSON into the words of the domain."""
