"""A worker of Prefect's process type without Prefect's command line, which takes 40 MB: `python -m lab.services.worker POOL`."""
