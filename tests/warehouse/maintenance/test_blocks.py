"""Every block of the DuckDB file that a later collection needs is read by verify, those of keys as well as those of rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from lab.main import app
from warehouse.maintenance.blocks import check_blocks
from warehouse.paths import Paths

HEADERS, BLOCK = 3 * 4096, 2**18  # of a DuckDB file, in bytes
# What a collection does with the tables that it changes.
TAKE_IN = (
    "INSERT INTO bundles SELECT * REPLACE (md5(sha256) AS sha256, md5(unit_id) AS unit_id) FROM bundles",
    "INSERT INTO bundle_numbers SELECT * REPLACE (md5(sha256) AS sha256) FROM bundle_numbers",
    "INSERT INTO trials FROM trials LIMIT 10",
    "INSERT INTO quarantine VALUES ('x', 'y', 1, now())",
)


def damage(path: Path, block: int) -> None:
    with path.open("r+b") as file:
        file.seek(HEADERS + block * BLOCK + BLOCK // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))


def trips(path: Path) -> bool:
    """True if what a collection does to this file ends in an error."""
    try:
        for statement in (*TAKE_IN, "CHECKPOINT"):
            with duckdb.connect(str(path)) as con:
                con.execute(statement)
    except duckdb.Error:
        return True
    return False


def test_no_damaged_block_that_a_collection_needs_goes_unnoticed(run_home: Paths, tmp_path: Path) -> None:
    """Verify said that all holds, and the next collection ended in an error: keys were never read, only rows."""
    whole = shutil.copy(run_home.warehouse, tmp_path / "whole")
    assert check_blocks(run_home).faults == [] and not trips(Path(shutil.copy(whole, tmp_path / "other")))
    blocks, tripped = (whole.stat().st_size - HEADERS) // BLOCK, 0
    for block in range(blocks):
        shutil.copy(whole, run_home.warehouse)
        damage(run_home.warehouse, block)
        if trips(Path(shutil.copy(run_home.warehouse, tmp_path / "other"))):
            tripped += 1
            found = check_blocks(run_home).faults
            assert found and "computed checksum" in found[0].what, block
    assert tripped >= 4  # of trials and bundles, and of the keys of both tables with keys
    assert list(run_home.home.glob(".part-*")) == []


def test_the_command_says_what_is_damaged_and_how_to_mend_it(run_home: Paths) -> None:
    """A fault, not a traceback, and exit code 1; a rebuild reads the bundles, which are whole."""
    with duckdb.connect(str(run_home.warehouse), read_only=True) as con:
        sql = "SELECT max(block_id) FROM pragma_storage_info('trials')"
        [(block,)] = con.execute(sql).fetchall()
    damage(run_home.warehouse, block)
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 1
    assert "fault  blocks: trials: " in done.output and "lab warehouse rebuild" in done.output
    found = json.loads(CliRunner().invoke(app, ["verify", "--json"]).output)
    assert [f["check"] for f in found["faults"]] == ["blocks"]
    assert CliRunner().invoke(app, ["warehouse", "rebuild"]).exit_code == 0
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0


@pytest.mark.parametrize("left", [0, 5000])
def test_a_file_that_cannot_be_opened_is_a_fault(run_home: Paths, left: int) -> None:
    """The first blocks tell where all others are."""
    run_home.warehouse.write_bytes(run_home.warehouse.read_bytes()[:left] + b"x" * 4096 * 4)
    [fault] = check_blocks(run_home).faults
    assert fault.check == "blocks" and fault.what
