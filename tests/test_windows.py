"""What a worker on Windows needs, with Windows emulated: no real one was at hand (docs/windows.md)."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from checkout import ROOT
from emulated_windows import FLOORS, refused_names, windows

LINUX_ALONE = {
    "lab.services.forking",
    "lab.services.prefect_engines",
}  # lab.services.worker imports them on Linux alone
PAGES = "app.views."  # run as they are imported, by Streamlit


def every_module() -> list[str]:
    """Return the dotted names of all modules."""
    files = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files}
    return sorted(name for name in names if not name.endswith("__main__") and not name.startswith(PAGES))


@pytest.fixture
def on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A LAB_HOME on Windows."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    with windows():
        yield tmp_path


def module(name: str) -> Any:
    """Import a module of this project."""
    return importlib.import_module(name)


def test_the_emulation_lacks_what_windows_lacks(on_windows: Path) -> None:
    """The tests below would all pass on an emulation that gives what it should refuse."""
    files, environment = module("common.files"), module("common.environment")
    assert files.sys.platform == "win32" and sys.platform != "win32"
    assert not hasattr(environment.os, "fork") and not hasattr(files.os, "O_NOFOLLOW")
    with pytest.raises(ModuleNotFoundError, match="fcntl"):
        files.__builtins__["__import__"]("fcntl", {"__name__": "common.files"})
    with pytest.raises(PermissionError):
        files.os.open(on_windows, files.os.O_RDONLY)


def test_every_module_can_be_imported(on_windows: Path) -> None:
    """A module that asks for fcntl as it is imported ends every command, whatever it was for."""
    names = every_module()
    assert len(names) > 200 and set(names) > LINUX_ALONE
    for name in names:
        if name not in LINUX_ALONE:
            module(name)
    for name in LINUX_ALONE:
        with pytest.raises(ImportError, match="on Linux alone"):
            module(name)


def test_files_are_written_whole_moved_and_locked(on_windows: Path) -> None:
    """No folder can be opened there to be synced, and no file that was opened for reading."""
    files = module("common.files")
    files.write_whole(on_windows / "a" / "one.json", b"1")
    files.write_whole(on_windows / "a" / "one.json", b"2")
    files.move(on_windows / "a" / "one.json", on_windows / "b" / "two.json")
    with files.plain_file(on_windows / "b" / "two.json") as file:
        assert file.read() == b"2"
    with (
        files.locked_file(on_windows / "x.lock", 0),
        pytest.raises(TimeoutError),
        files.locked_file(on_windows / "x.lock", 0),
    ):
        pass
    with files.locked_file(on_windows / "x.lock", 0):
        assert refused_names(on_windows) == []


def test_a_file_that_a_virus_scanner_has_open_is_waited_for(on_windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There nobody may rename over an open file; a scanner opens each new one for a moment, a program that keeps it is told."""
    files, left, replace = module("common.files"), [2], Path.replace

    def refusing(source: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "Access is denied", str(target))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refusing)
    monkeypatch.setattr(files, "OPEN_AGAIN_S", 0.0)
    files.write_whole(on_windows / "one", b"1")
    assert (on_windows / "one").read_bytes() == b"1" and left == [-1]
    left[0], files.OPEN_S = 10**9, 0.01
    with pytest.raises(PermissionError):
        files.write_whole(on_windows / "one", b"2")
    assert (on_windows / "one").read_bytes() == b"1" and refused_names(on_windows) == []
    assert [path.name for path in on_windows.iterdir() if path.is_file()] == ["one"]


def test_keys_are_saved_and_read_where_modes_mean_nothing(on_windows: Path) -> None:
    """Each file of Windows has mode 666 for Python, which was refused as readable by others."""
    secrets, signing, paths = (
        module("lab.network.secrets"),
        module("warehouse.delivery.signing"),
        module("warehouse.paths"),
    )
    key = "k" * 43
    saved = secrets.save_key("http://[fe80::1]:4200/api", key)
    saved.chmod(0o666)
    assert secrets.saved_key("http://[fe80::1]:4200/api") == key
    home = paths.Paths.local()
    signing.add_key(home, "pi-4", "a" * 64).chmod(0o666)
    assert signing.key_of(home, "pi-4") == bytes.fromhex("a" * 64)
    assert refused_names(on_windows) == []


def test_a_service_goes_on_without_its_terminal_and_is_stopped(on_windows: Path) -> None:
    """`lab join` ends, and its worker must not: there a process of its own group without a window."""
    processes, home = module("lab.services.processes"), module("warehouse.paths").Paths.local()
    started = processes.start(home, "worker-weak", [sys.executable, "-c", "import time; time.sleep(60)"], {})
    assert processes.APART["creationflags"] == 0x8000200
    assert processes.running(home, "worker-weak") == started
    assert processes.stop([started]) == ["worker-weak"] and not started.alive


def test_results_go_to_a_drive_or_a_share(on_windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C: looked like the scheme of a URL."""
    from ntpath import isabs
    from nturl2path import url2pathname

    choice, paths = module("warehouse.delivery.transports.choice"), module("warehouse.paths").Paths.local()
    monkeypatch.setattr(choice, "Path", PureWindowsPath)
    monkeypatch.setattr(choice, "url2pathname", url2pathname)
    for url, path in {
        r"C:\lab\results": r"C:\lab\results",
        "Z:/results": r"Z:\results",
        r"\\pi-4\lab\results": r"\\pi-4\lab\results",
        "file:///C:/lab/my%20results": r"C:\lab\my results",
    }.items():
        monkeypatch.setenv("LAB_RESULTS_URL", url)
        found = choice.configured_transport(paths)
        assert (found.kind, str(found.root)) == ("directory", path) and isabs(path)
    monkeypatch.setenv("LAB_RESULTS_URL", "D:results")
    with pytest.raises(Exception, match=r"is not (an absolute path|supported)"):
        choice.configured_transport(paths)


def test_a_model_may_be_on_a_drive(on_windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for a repository of the hub, and refused as unknown."""
    catalog, needs = module("experiments.backends.catalog"), module("workpools.needs")
    monkeypatch.setattr(catalog, "Path", PureWindowsPath)
    assert catalog.is_path(r"C:\models\own") and catalog.is_path("D:/models/own") and not catalog.is_path("org/model")
    assert needs.needs_of(("language_model",), "hf/D:/models/own") == ("language_model",)


def test_the_warehouse_opens_though_a_locked_file_can_be_neither_read_nor_written(
    on_windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks of Windows hold for everybody; who holds it is then not told."""

    def refusing(path: Path, *of: Any, **more: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    connection, home = module("warehouse.database.connection"), module("warehouse.paths").Paths.local()
    for method in ("read_text", "write_text"):
        monkeypatch.setattr(Path, method, refusing)
    with (
        connection.locked(home, 0),
        pytest.raises(Exception, match="is held by another process"),
        connection.locked(home, 0),
    ):
        pass


def test_a_bundle_is_delivered_to_a_folder(on_windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of a worker: a bundle leaves the spool whole, under a name that Windows takes."""
    store = module("warehouse.delivery.results_store").Store
    paths, bundles = module("warehouse.paths").Paths.local(), module("warehouse.delivery.bundles")
    contract = module("experiments.contract")
    unit = contract.Unit("a" * 32, "p1", 1, {}, {}, {"code": "x"}, (), (), 1, 1.0)
    now = module("datetime").datetime.fromtimestamp(time.time(), module("datetime").UTC)
    key = module("warehouse.delivery.signing")
    key.add_key(paths, "pc", "a" * 64)
    bundles.write_bundle(
        paths.spool, unit, [contract.Trial("x", "y")], [], host="pc", attempt=1, started_at=now, finished_at=now,
        provenance={}, key=key.key_of(paths, "pc"),
    )  # fmt: skip
    (on_windows / "share" / "inbox").mkdir(parents=True)
    monkeypatch.setenv("LAB_RESULTS_URL", str(on_windows / "share"))
    done = store.configured(paths).deliver(paths.spool)
    assert (done.delivered, done.waiting) == (1, 0)
    assert len(list((on_windows / "share" / "inbox").glob("*.parquet"))) == 1 and refused_names(on_windows) == []


def test_names_that_windows_refuses_are_found(tmp_path: Path) -> None:
    """The tests that ask for none rest on this search."""
    for name in ("a:b", "con", "NUL.txt", "end.", "Same", "same", "fine-1.json"):
        (tmp_path / name).write_text("")
    assert sorted(refused_names(tmp_path))[:4] == ["NUL.txt", "a:b", "con", "end."]
    assert len(refused_names(tmp_path)) == 5
