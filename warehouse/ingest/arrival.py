"""Check an arriving bundle against the plans: that its unit was asked for, with which code, data and models, and which trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection
from pydantic import ValidationError

from common.errors import LabError
from experiments.contract import Json, Unit
from experiments.expected import Columns, Expected
from experiments.protocol import leakage_gate
from experiments.registry import get_phase
from warehouse.database.statements import column_of
from warehouse.delivery.bundles import NAME, BadBundle, Bundle
from warehouse.delivery.reading import Head
from warehouse.ingest.read_ahead import Check, Planned, accept

UNPLANNED = "no plan in this warehouse asks for its unit"


def known(con: Connection, entries: Sequence[Path]) -> set[str]:
    """Return the SHA-256 of those entries that were ingested before."""
    wanted = [named[2] for path in entries if (named := NAME.fullmatch(path.name))]
    return set(column_of(con, "SELECT sha256 FROM bundles WHERE sha256 IN (SELECT unnest(?::VARCHAR[]))", [wanted]))


def planned_units(con: Connection, unit_ids: Sequence[str]) -> dict[str, Unit]:
    """Return those units that a plan asks for, by id."""
    sql = "SELECT DISTINCT ON (unit_id) spec FROM units WHERE unit_id IN (SELECT unnest(?::VARCHAR[]))"
    units = (Unit.from_json(json.loads(spec)) for spec in column_of(con, sql, [list(unit_ids)]))
    return {unit.unit_id: unit for unit in units}


def look_up(con: Connection, entries: Sequence[Path]) -> Planned:
    """Read what the warehouse says of some entries of the inbox; the result checks the head of one of them."""
    ingested = known(con, entries)
    names = [named for path in entries if (named := NAME.fullmatch(path.name))]
    units, rejected = planned_units(con, [named[1] for named in names]), rejections(con, [named[2] for named in names])

    def planned(head: Head) -> Check:
        if head.sha256 in rejected:
            raise BadBundle(f"rejected: {rejected[head.sha256]}")
        return accept if head.sha256 in ingested else partial(check_trials, check_planned(head.manifest, units))

    return planned


def rejections(con: Connection, sha256s: Sequence[str]) -> dict[str, str]:
    """Return why some of these bundles were rejected, by SHA-256."""
    sql = "SELECT sha256, why FROM rejections WHERE sha256 IN (SELECT unnest(?::VARCHAR[]))"
    return dict(con.execute(sql, [list(sha256s)]).fetchall())


def checked(con: Connection, bundle: Bundle) -> None:
    """Check a bundle of the archive as if it arrived now.

    Raises:
        BadBundle: it is not what a plan asks for, or it was rejected.
    """
    if why := rejections(con, [bundle.sha256]):
        raise BadBundle(f"rejected: {why[bundle.sha256]}")
    check_trials(check_planned(bundle.manifest, planned_units(con, [bundle.manifest["unit_id"]])), bundle)


def check_planned(manifest: Json, units: Mapping[str, Unit]) -> Unit:
    """Return the bundle's unit, which a plan asks for and which was computed with the planned code, data and models.

    Raises:
        BadBundle: it was not, with what differs.
    """
    if manifest["unit_id"] not in units:
        raise BadBundle(UNPLANNED)
    unit = units[manifest["unit_id"]]
    if manifest["phase"] != unit.phase:
        raise BadBundle(f"it says {manifest['phase']}, its unit is one of {unit.phase}")
    used, wanted = manifest["provenance"].get("identity"), unit.identity
    if not isinstance(used, dict):
        raise BadBundle("it does not say with which code, data and models it was computed")
    if used != wanted:
        differ = sorted(k for k in wanted.keys() | used.keys() if wanted.get(k) != used.get(k))
        raise BadBundle(f"computed with other {', '.join(differ)[:200]} than planned")
    return unit


def check_trials(unit: Unit, bundle: Bundle) -> None:
    """Check that the trials are those of the unit.

    Raises:
        BadBundle: they are not.
    """
    if why := wrong_trials(unit, bundle):
        raise BadBundle(why)


def wrong_trials(unit: Unit, bundle: Bundle) -> str | None:
    """Return what is wrong with the trials of a unit: their number, or something that its phase's analysis rests on.

    Of a phase, settings or data that are not of this version, or not here, only the number is looked at.
    """
    found, n = expected_of(unit), bundle.trials.num_rows
    if found is None:
        return None if n == unit.n_trials else f"{n} trials, its unit yields {unit.n_trials}"
    values = {f.name: bundle.trials[f.name].to_pylist() for f in fields(Columns) if f.name != "details"}
    columns = Columns(**values, details=bundle.trials["details"].cast(pa.binary()).to_pylist())
    return found.wrong(columns, [a.sha256 for a in bundle.attachments])


def expected_of(unit: Unit) -> Expected | None:
    """Return the trials that a unit yields; None if its phase, its settings or its data are not known here."""
    try:
        if unit.config.keys() != get_phase(unit.phase).Config.model_fields.keys():
            return None  # planned by another version, whose trials were others
        return leakage_gate.expected(unit)
    except (LabError, ValidationError, KeyError):
        return None
