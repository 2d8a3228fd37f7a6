"""The machines: what a host can do, tiers, pools and placement."""
