"""Repairs of what a verification found."""
