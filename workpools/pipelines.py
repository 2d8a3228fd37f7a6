"""Flow runs of the pipeline as Prefect's server lists them, and which run each belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

TAG = "pipeline"  # of the pipeline's deployments (prefect.yaml)
RUN_ID = re.compile(r"[a-z]+-[0-9a-f]{8}")  # flows.plan: scale and plan
UNDER_WAY = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")  # types of state


def run_of(tags: Sequence[str]) -> str | None:
    """Return the id of the run that a flow run belongs to, by its tags; None where it has none yet."""
    return next((tag for tag in tags if RUN_ID.fullmatch(tag)), None)
