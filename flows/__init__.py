"""Prefect flows, and the chain of phases that they run."""
