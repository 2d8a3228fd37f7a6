"""The front door: the `lab` command."""
