"""Bundles from the inbox into the warehouse."""
