"""Delivery of bundles from a host to the coordinator."""
