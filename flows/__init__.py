"""The conductor: Prefect flows, thin, and the chain of phases that they run."""
