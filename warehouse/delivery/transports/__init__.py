"""Transports to the results store, one file each with the same protocol; LAB_RESULTS_URL chooses one."""
