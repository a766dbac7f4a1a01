"""The archive's own memory of what was done with it: the audit trail, and manifests that any machine can check."""
