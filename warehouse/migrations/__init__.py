"""Numbered SQL migrations; each file is applied once, with its record, in one transaction."""
