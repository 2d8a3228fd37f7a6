"""Queries of pages and reports to the published snapshot."""
