"""What pages and reports read from the published snapshot."""
