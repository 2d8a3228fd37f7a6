"""Deaths and errors at every moment, and a count of what they lost, doubled or distorted; run by hand and by tests."""
