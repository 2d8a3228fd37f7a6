"""Numbers made of trials, and the verdicts that rest on them."""
