"""Git as a way of results: pushes at once, and branches that somebody rewrites or deletes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import Scene, bundle, scene

from warehouse.delivery.results_store import Store


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Scene]:
    with scene("git", tmp_path) as made:
        yield made


def git(scene_: Scene, *arguments: str) -> str:
    command = ["git", f"--git-dir={scene_.folder / 'store.git'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def brought(coordinator: Store) -> set[str]:
    """Return the contents of the inbox, and empty it as the collector would."""
    names = {p.name for p in coordinator.inbox.iterdir()}
    for name in names:
        (coordinator.inbox / name).unlink()
    return names


def test_processes_of_one_host_push_at_once(repository: Scene) -> None:
    """Workers of several pools deliver at the same moment to one branch: who is second tries again, and takes nothing away."""
    stores = [repository.host("pi-4") for _ in range(3)]
    names = {bundle(store, number, b"%d" % number) for number, store in enumerate(stores)}
    left: list[int] = []
    threads = [threading.Thread(target=lambda s=s: left.append(s.deliver(s.spool).waiting)) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [0, 0, 0]
    coordinator = repository.host("coordinator")
    assert coordinator.fetch() == []
    assert brought(coordinator) == names
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/machine-pi-4"


def test_a_rewritten_branch_is_told_and_loses_nothing(repository: Scene) -> None:
    """A forced push by somebody takes results away that the spool has dropped: they are stored where they were seen, and reported."""
    host, coordinator = repository.host("pi-4"), repository.host("coordinator")
    first = bundle(host, 1, b"taken in before")
    host.deliver(host.spool)
    assert coordinator.fetch() == [] and brought(coordinator) == {first}
    begin = git(repository, "rev-parse", "machine-pi-4")
    second = bundle(host, 2, b"seen, not taken in")
    host.deliver(host.spool)
    assert coordinator.reports() == {}  # looks at the branch for another reason
    git(repository, "update-ref", "refs/heads/machine-pi-4", begin)
    (note,) = coordinator.fetch()
    assert "machine-pi-4 was rewritten or deleted" in note
    assert brought(coordinator) == {second}
    assert coordinator.fetch() == [] and brought(coordinator) == set()
    third = bundle(host, 3, b"afterwards")
    assert host.deliver(host.spool).delivered == 1
    assert {first, second, third} == {
        line.removeprefix("inbox/")
        for line in git(repository, "ls-tree", "-r", "--name-only", "machine-pi-4").splitlines()
    }
    assert coordinator.fetch() == []
    assert third in brought(coordinator)


def test_a_deleted_branch_is_told_and_comes_back(repository: Scene) -> None:
    """Tidying up a forge must not lose what a machine delivered: its own copy pushes all of it again."""
    host, coordinator = repository.host("pi-4"), repository.host("coordinator")
    first = bundle(host, 1, b"first")
    host.deliver(host.spool)
    assert coordinator.reports() == {}
    git(repository, "update-ref", "-d", "refs/heads/machine-pi-4")
    (note,) = coordinator.fetch()
    assert "was rewritten or deleted" in note and brought(coordinator) == {first}
    second = bundle(host, 2, b"second")
    host.deliver(host.spool)
    assert len(git(repository, "ls-tree", "-r", "--name-only", "machine-pi-4").splitlines()) == 2
    assert coordinator.fetch() == [] and second in brought(coordinator)


def test_only_what_is_called_like_a_bundle_or_a_host_is_taken(repository: Scene) -> None:
    """Whoever can push writes names: none becomes a path, and no machine reports for another."""
    store = repository.host("pi-4")
    bundle(store, 1, b"good")
    store.deliver(store.spool)
    blob = git(
        repository, "rev-parse", "machine-pi-4:inbox/" + git(repository, "ls-tree", "--name-only", "machine-pi-4:inbox")
    )
    rows = f"100644 blob {blob}\tevil.sh\n120000 blob {blob}\t{2:032x}.{'0' * 64}.parquet\n"
    make = ["git", f"--git-dir={repository.folder / 'store.git'}", "mktree"]
    inbox = subprocess.run(make, input=rows, capture_output=True, text=True, check=True).stdout.strip()
    hosts = subprocess.run(
        make, input=f"100644 blob {blob}\tcapability_report_desk.json\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = f"040000 tree {inbox}\tinbox\n040000 tree {hosts}\thosts\n"
    tree = subprocess.run(make, input=rows, capture_output=True, text=True, check=True).stdout.strip()
    identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
    commit = git(
        repository, *identity, "commit-tree", tree, "-p", git(repository, "rev-parse", "machine-pi-4"), "-m", "x"
    )
    git(repository, "update-ref", "refs/heads/machine-pi-4", commit)
    git(repository, "update-ref", "refs/heads/machine-Not-A-Host", commit)
    coordinator = repository.host("coordinator")
    assert coordinator.fetch() == [] and brought(coordinator) == set()
    assert coordinator.reports() == {}
