"""The ways of a bundle from a host to the coordinator: one file a way, one protocol, chosen by LAB_RESULTS_URL."""
