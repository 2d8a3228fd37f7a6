"""What the fast ways bring: each script measures one ratio within one run, by hand, and prints it as JSON."""
