"""Kill the roles of one home after the other, and look at what is left in each, and in its newest backup."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

from numpy.random import Generator

from benchmarks.chaos.found import Found, journals_in, left_behind, look, look_migrated
from benchmarks.chaos.killing import COLLECTORS, Forks, at_work, kill_in
from benchmarks.chaos.roles import STAGES, WRITTEN
from benchmarks.chaos.work import WRITERS, plan
from warehouse.delivery.results_store import Store
from warehouse.maintenance.backup_folder import dated
from warehouse.maintenance.restore import restore
from warehouse.paths import Paths

KILLS_A_HOME = 50
ROLES = (*WRITERS, *COLLECTORS, "judge-a", "saver-a", "builder-a", "migrator-a")


def run(folder: Path, kills: int, rng: Generator, until: float) -> tuple[Counter[str], Found]:
    """Kill so many times, over as many homes as that needs.

    Args:
        until: time.monotonic() after which none is killed any more.

    Returns:
        Kills by the stage of work in which they fell, and what was found.
    """
    hit, found, forks = Counter[str](), Found(), Forks()
    try:
        while (left := kills - sum(hit.values())) > 0 and time.monotonic() < until:
            home = folder / f"home-{sum(hit.values())}"
            one, seen = kill_roles(forks, home, min(left, KILLS_A_HOME), rng, until)
            hit += one
            found.add(seen)
            if not seen.wrong:
                shutil.rmtree(home)
    finally:
        forks.end()
    return hit, found


def kill_roles(forks: Forks, home: Path, kills: int, rng: Generator, until: float) -> tuple[Counter[str], Found]:
    """Let all roles work in one home, kill them, and look at what is left."""
    plan(Paths(home), WRITERS)
    with at_work(forks, home, ROLES) as children:
        hit = kill_in(children, list(STAGES), kills, rng, lambda _: None, until)
    found = look(home, journals_in(home))
    found.add(look_migrated(home))
    found.add(look_at_newest(home))
    found.left += left_behind(home)
    return hit, found


def look_at_newest(home: Path) -> Found:
    """Restore the newest backup elsewhere, and look for all that was written before it began."""
    saved = home / "saved"
    names = [p.name for p in saved.glob("*.tar") if (saved / f"{p.name}{WRITTEN}").exists()]
    if not names:
        return Found()
    newest = dated(names)[-1].name
    other = Paths(home / "restored")
    done = restore(other, Store.configured(other), str(saved / newest))
    found = look(other.home, json.loads((saved / f"{newest}{WRITTEN}").read_text()))
    found.lost += [f"from the backup: {what}" for what in done.rebuilt.lost]
    return found
