"""Processes that `lab up` and `lab join` start."""
