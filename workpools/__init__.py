"""Machines: capability reports, tiers, work pools, placement and plans."""
