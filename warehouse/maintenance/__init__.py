"""Verify, rebuild, back up, merge and clean."""
