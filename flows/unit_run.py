"""Run one unit on this machine. A shard imports neither DuckDB nor the coordinator's modules for it, which take 30 MB."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime

from common.environment import code_commit, host_name, package_versions
from experiments.backends.model_cache import Backends
from experiments.contract import Json, Unit
from experiments.domains import fetch_data
from experiments.protocol import leakage_gate
from experiments.protocol.identity import check_unit
from experiments.registry import get_phase
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.delivery.signing import key_of
from warehouse.paths import Paths

OUT_OF_MEMORY = re.compile(r"out of memory|exited with status code: -9|can't allocate memory", re.IGNORECASE)
log = logging.getLogger(__name__)


def run_unit(unit: Unit, backends: Backends, paths: Paths, store: Store, attempt: int) -> int:
    """Run one unit in this process, deliver its bundle and return its number of trials.

    Refuse if code, data or models differ from the plan's, or a file it needs is missing.
    """
    module = get_phase(unit.phase)
    config = module.Config(**unit.config)
    fetch_data(config.domain, store.get_file)
    check_unit(unit, config)
    commit, dirty = code_commit()  # before the work, which would be lost where git is not installed
    started = datetime.now(UTC)
    search = unit.spec.get("role") == leakage_gate.LEAKAGE
    trials = leakage_gate.run(unit, config, backends) if search else module.run(unit, backends)
    provenance: Json = {"code_commit": commit, "dirty": dirty, "versions": package_versions()}
    provenance["transport"] = store.transport.kind
    write_bundle(
        paths.spool,
        unit,
        trials,
        backends.take_attachments(),
        host=host_name(),
        attempt=attempt,
        started_at=started,
        finished_at=datetime.now(UTC),
        provenance=provenance | {"identity": unit.identity},
        key=key_of(paths, host_name()),
    )
    delivery = store.deliver(paths.spool)
    if delivery.waiting:
        log.warning("%d bundles wait in the spool of %s: %s", delivery.waiting, host_name(), delivery.reason)
    return len(trials)
