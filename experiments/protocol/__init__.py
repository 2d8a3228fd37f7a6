"""Rules that hold for every phase: identity of units, the leakage gate, giving up, agreement."""
