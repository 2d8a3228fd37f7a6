"""Keys of the coordinator and of joined servers, in files of mode 600 outside the checkout and LAB_HOME."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import shlex
import stat
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from common.environment import PROJECT, checkout, home_folder, lab_home
from common.errors import LabError
from common.urls import without_secrets

FOLDER = "LAB_SECRETS"  # environment variable: a folder instead of ~/.config/llm-memory-experiments
KEY = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 random bytes, as token_urlsafe writes them
MAX_FILE_BYTES = 4096
# A link is not followed, and a pipe not waited for; Windows has neither flag.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, repr=False)  # so that no traceback or log shows it
class Keys:
    """The coordinator's keys: `coordinator` allows everything at the server, `join` a worker's requests, `page` the page."""

    coordinator: str
    join: str
    page: str


def folder() -> Path:
    """Return the folder of all secrets; LabError if it is inside the checkout or LAB_HOME, which are copied and shared."""
    path = Path(
        os.environ.get(FOLDER) or Path(os.environ.get("XDG_CONFIG_HOME") or home_folder() / ".config") / PROJECT
    )
    if not path.is_absolute():
        raise LabError(f"{FOLDER} is not an absolute path: {str(path)[:200]!r}", f"export {FOLDER}={path.absolute()}")
    for shared in (checkout(), lab_home()):
        if shared and path.resolve().is_relative_to(shared.resolve()):
            raise LabError(f"secrets must not be in {shared}, which may be copied or shared", f"unset {FOLDER}")
    return path


def _coordinators() -> Path:
    return folder() / "coordinator.json"


def issued() -> Keys:
    """Return this coordinator's keys, created the first time; LabError if others can read the file, or it is damaged."""
    path = _coordinators()
    with suppress(FileExistsError):
        fresh = Keys(*(secrets.token_urlsafe(32) for _ in range(3)))
        _create(path, json.dumps(asdict(fresh)).encode())
    try:
        found = Keys(**json.loads(_read(path)))
    except (ValueError, TypeError, RecursionError):
        found = Keys("", "", "")
    if not all(isinstance(v, str) and KEY.fullmatch(v) for v in asdict(found).values()):
        mend = f"rm {shlex.quote(str(path))}, then lab up --lan, and join all machines again"
        raise LabError(f"{path} is damaged", mend)
    return found


def of_coordinator() -> Keys | None:
    """Return this coordinator's keys, or None if none were created."""
    return issued() if _coordinators().exists() else None


def renew_page() -> Keys:
    """Replace the page's password, so that it, its links and its cookies are worth nothing; return the new keys."""
    keys = replace(issued(), page=secrets.token_urlsafe(32))
    _replace(_coordinators(), json.dumps(asdict(keys)).encode())
    return keys


def coordinator_auth(keys: Keys) -> str:
    """Return user:password of Prefect's server; they allow everything."""
    return f"coordinator:{keys.coordinator}"


def worker_auth(join_key: str) -> str:
    """Return user:password of joined machines, which lab.network.auth_proxy limits to a worker's requests."""
    return f"worker:{derived(join_key, 'prefect')}"


def page_auth(keys: Keys) -> str:
    """Return user:password of the page at the server, which may only read there; who may see the page does not have it."""
    return f"page:{derived(keys.coordinator, 'page')}"


def inbox_token(join_key: str) -> str:
    """Return the token of the inbox, which the server does not accept."""
    return derived(join_key, "inbox")


def derived(key: str, purpose: str) -> str:
    """Return a secret for one purpose, from which the key cannot be computed (HMAC-SHA-256, RFC 2104)."""
    return hmac.new(key.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def checked_key(text: str) -> str:
    """Return a join key without surrounding spaces; LabError if it is not one, without showing it."""
    key = text.strip()
    if not KEY.fullmatch(key):
        raise LabError("that is not a join key", "copy the output of this command on the coordinator: lab invite --key")
    return key


def save_key(api_url: str, join_key: str) -> Path:
    """Save the key of a joined server, replacing an older one; return its file."""
    return _replace(_joined(api_url), join_key.encode())


def saved_key(api_url: str) -> str | None:
    """Return the key of a joined server, or None."""
    path = _joined(api_url)
    return checked_key(_read(path).decode(errors="replace")) if path.exists() else None


def check_joined() -> int:
    """Return how many servers have a key here; LabError if a file can be read by others, or holds no key."""
    files = [path for path in sorted((folder() / "joined").glob("*")) if not path.name.startswith(".")]
    for path in files:
        checked_key(_read(path).decode(errors="replace"))
    return len(files)


def _joined(api_url: str) -> Path:
    """Return the file for a server's key, named by host and port; LabError if the address has none."""
    try:
        parts = urlsplit(api_url)
        name = re.sub(r"[^a-z0-9.-]", "_", f"{parts.hostname}-{parts.port or ''}".lower())
    except ValueError:
        mend = "export PREFECT_API_URL=http://127.0.0.1:4200/api"
        raise LabError(f"PREFECT_API_URL = {without_secrets(api_url)[:200]!r} is not an http address", mend) from None
    return folder() / "joined" / name[:200]


def _create(path: Path, content: bytes) -> None:
    """Create a file that only this user may read, complete from its first moment; FileExistsError if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        raise FileExistsError(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link, since a rename would replace a file that another `lab up` created meanwhile.
        os.link(temporary, path)
    finally:
        temporary.unlink()


def _replace(path: Path, content: bytes) -> Path:
    """Write a secret's file in one step, replacing an older one; return it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    _create(temporary, content)
    return temporary.replace(path)


def _read(path: Path) -> bytes:
    """Return the content of a secret's file; LabError if others can read it."""
    handle = os.open(path, os.O_RDONLY | NO_LINK)
    with os.fdopen(handle, "rb") as file:
        if not _is_private(os.fstat(handle)):
            mend = f"chmod 600 {shlex.quote(str(path))}"
            raise LabError(f"{path} can be read by others, or belongs to another user", mend)
        return file.read(MAX_FILE_BYTES)


def _is_private(status: os.stat_result) -> bool:
    """Return True for a plain file of this user that nobody else may read; Windows protects it with the user's profile."""
    if sys.platform == "win32":
        return stat.S_ISREG(status.st_mode)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
