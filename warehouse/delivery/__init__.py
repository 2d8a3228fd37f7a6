"""Bundles on their way from a host to the coordinator."""
