"""This installation: its folders, the name of its host, the code that it runs."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from common.errors import LabError

PROJECT = "llm-memory-experiments"  # as its package is called
TOP_LEVEL = ("app", "common", "experiments", "flows", "lab", "warehouse", "workpools")  # packages that are installed
GIT_S = 20.0  # for a checkout on a slow network
ALL_HOSTS = "all"  # in the place of a host's name: a number over all hosts
MARK = 8  # hexadecimal digits that tell apart names of which the rest is the same
MARKED = 63 - 1 - MARK  # characters before them
HOST_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one RFC 1123 label
VERSIONED_PACKAGES = (
    "bitsandbytes duckdb mlx mlx-lm numpy peft prefect pyarrow scikit-learn scipy sentence-transformers statsmodels tokenizers torch "
    "transformers".split()
)


class Commit(NamedTuple):
    """The code that runs: git's SHA-1, and True if the checkout has uncommitted changes."""

    sha: str
    dirty: bool


def checkout() -> Path | None:
    """Return the git checkout that this package runs from, or None when it was installed as a wheel."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "prefect.yaml").is_file() else None


def python() -> list[str]:
    """Return the words before a module's name that run it in another process, never one of the working folder."""
    return [sys.executable, "-P", "-m"]


def own_first(folders: Sequence[str]) -> list[str]:
    """Return a search path of modules on which this installation comes before the first folder with other packages of its names.

    Args:
        folders: of sys.path or PYTHONPATH; "" is the working folder.
    """
    root = Path(__file__).resolve().parent.parent
    found = list(folders)
    for i, folder in enumerate(found):
        if Path(folder).resolve() == root:
            break
        if any((Path(folder) / name).is_dir() or (Path(folder) / f"{name}.py").is_file() for name in TOP_LEVEL):
            found.insert(i, str(root))
            break
    return found


def upgrade_command() -> str:
    """Return the command that updates this installation."""
    return "git pull && make setup" if checkout() else f"pip install --upgrade {PROJECT}"


def home_folder() -> Path:
    """Return this user's home folder.

    Raises:
        LabError: HOME is not set, and the system does not know this user, as in a container with --user.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise LabError("this user has no home folder: HOME is not set", "export HOME=/a/folder/of/this/user") from None


def expanded(path: str | Path) -> Path:
    """Return a path that a user gave, with ~ replaced by the home folder.

    Raises:
        LabError: there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise LabError(f"the home folder that {str(path)!r} begins with is not known", "write the whole path") from None


def lab_home() -> Path:
    """Return the folder of all state: LAB_HOME, else .lab in the checkout, else ~/.local/share/llm-memory-experiments.

    Raises:
        LabError: LAB_HOME is not an absolute path, or not one that DuckDB can open.
    """
    if value := os.environ.get("LAB_HOME"):
        path = expanded(value)
        if not path.is_absolute():
            raise LabError(f"LAB_HOME is not an absolute path: {value!r}", f"export LAB_HOME={path.absolute()}")
    else:
        root = checkout()
        path = root / ".lab" if root else home_folder() / ".local" / "share" / PROJECT
    return in_utf8(path, "choose another: export LAB_HOME=/another/folder")


def no_such_home() -> str:
    """Return what is wrong if LAB_HOME names a folder that does not exist, as a mistyped one does; else ""."""
    given = os.environ.get("LAB_HOME")
    return f"LAB_HOME is {given}, and there is no such folder" if given and not lab_home().exists() else ""


def in_utf8(path: Path, mend: str) -> Path:
    """Return `path` if DuckDB and Arrow, which read all paths as UTF-8, open the same file as Python.

    Args:
        mend: what gives it such a name.

    Raises:
        LabError: it is not in UTF-8, or Python was told to read it in another encoding.
    """
    raw = os.fsencode(path)
    try:
        read = raw.decode()
    except UnicodeDecodeError:
        raise LabError(f"{raw.decode(errors='backslashreplace')} is not a name in UTF-8", mend) from None
    if read != str(path):
        raise LabError(f"{sys.getfilesystemencoding()} cannot name {read}", "export PYTHONUTF8=1")
    return path


def host_name() -> str:
    """Return this host's name in every table: LAB_HOST, else one from the system's name.

    Raises:
        LabError: LAB_HOST is not one lowercase DNS label.
    """
    value = os.environ.get("LAB_HOST")
    return checked_host(host_name_from(platform.node()) if value is None else value)


def host_name_from(system: str) -> str:
    """Return a valid host name for a system's name: the same where it is one, else what is left of it and a mark.

    Two names never become one; capitals do not tell names apart (RFC 4343), and `.local` is not part of a name (RFC 6762).
    """
    name = re.sub("[A-Z]+", lambda found: found[0].lower(), system.rstrip("."))  # not letters that only become such
    name = name.removesuffix(".local")
    if is_host(name):
        return name
    letters = unicodedata.normalize("NFKD", name.partition(".")[0]).encode("ascii", "ignore").decode().lower()
    left = re.sub("[^a-z0-9]+", "-", letters)[:MARKED].strip("-") or "host"
    return f"{left}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:MARK]}"


def is_host(value: str) -> bool:
    """Return True if `value` can be the name of a host."""
    return value != ALL_HOSTS and HOST_PATTERN.fullmatch(value) is not None


def checked_host(value: str) -> str:
    """Return `value` if it is a valid host name; names become file names.

    Raises:
        LabError: it is not.
    """
    if value == ALL_HOSTS:
        raise LabError(
            f"a host cannot be named {value!r}: metrics over all hosts are stored under it",
            "choose another name: export LAB_HOST=pi-4",
        )
    if not HOST_PATTERN.fullmatch(value):
        mend = "use at most 63 lowercase letters, digits and dashes, as in LAB_HOST=pi-4"
        raise LabError(f"invalid host name {value[:80]!r}", mend)
    return value


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that can change a result."""
    found = {}
    for name in VERSIONED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@cache
def release_of(package: str) -> str | None:
    """Return the first two numbers of an installed package's version, as in 2.13; None when it is not installed."""
    try:
        return release(metadata.version(package))
    except metadata.PackageNotFoundError:
        return None


def releases_of(packages: Sequence[str]) -> dict[str, str]:
    """Return the releases of those packages that are installed, by name."""
    return {package: found for package in packages if (found := release_of(package))}


def release(version: str) -> str:
    """Return the first two numbers of a version: what comes after them mends faults and is taken to move no numbers."""
    return ".".join(version.partition("+")[0].split(".")[:2])


@cache
def code_commit() -> Commit:
    """Return the checkout's commit; of a wheel "wheel-<version>".

    Raises:
        LabError: git is not installed, or does not answer.
    """
    root = checkout()
    if root is None or not (root / ".git").exists():
        return Commit(f"wheel-{metadata.version(PROJECT)}", False)

    def git(*args: str) -> str:
        try:
            # Another user's checkout, as in a container, is refused by default; its code runs here already.
            command = ["git", "-c", f"safe.directory={root}", *args]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=GIT_S, check=False)  # noqa: S603
        except FileNotFoundError:
            unknown = "git is not installed, so this checkout's commit is unknown"
            raise LabError(unknown, "apt-get install git") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"git did not answer within {GIT_S:.0f} s", f"git -C {root} status") from None
        return done.stdout.strip() if done.returncode == 0 else ""

    return Commit(git("rev-parse", "HEAD") or "no-commit", bool(git("status", "--porcelain")))


def project_files() -> Path:
    """Return the folder of prefect.yaml and the deployments' code: the checkout, or where the wheel put them.

    Raises:
        LabError: it is in neither.
    """
    if root := checkout():
        return root
    try:
        files = metadata.files(PROJECT) or []
    except metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(f.locate())).resolve() for f in files if f.name == "prefect.yaml"), None)
    if found is None or not found.is_file():
        raise LabError("prefect.yaml is missing", f"pip install --force-reinstall {PROJECT}, or work in a checkout")
    return found.parent
