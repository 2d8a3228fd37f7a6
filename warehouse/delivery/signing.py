"""Sign bundles with one key for each host, shared with the coordinator.

The signature is in the bundle's file name, which every transport preserves: <unit>.<sha256>.<signature>.parquet.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import sys
from pathlib import Path

from common.environment import checked_host
from common.errors import LabError
from common.files import whole_file, write_whole
from warehouse.paths import Paths

KEY = re.compile(r"[0-9a-f]{64}")  # 256 bits, as much as the hash gives
REQUIRED = "required"  # file among the keys: if it exists, bundles without a valid signature are refused


def signature(key: bytes, host: str, sha256: str) -> str:
    """Return the HMAC-SHA256 (RFC 2104), in hex, of a bundle's host and SHA-256."""
    return hmac.new(key, f"bundle\n{host}\n{sha256}".encode(), "sha256").hexdigest()


def add_key(paths: Paths, host: str, text: str | None = None) -> Path:
    """Save a key for `host` in a file that only this user can read, and return its path.

    Args:
        text: the key; None: make a new one.

    Raises:
        LabError: invalid host name or key, or the host has another key.
    """
    path = _file(paths, host)
    if text is not None and not KEY.fullmatch(text.strip()):
        raise LabError(f"the text is not a key for {host}", "a key is 64 hex digits, as lab keys add makes them")
    if path.exists():
        if text is not None and path.read_text(encoding="ascii").strip() == text.strip():
            return path
        raise LabError(f"{host} has a key already, in {path}", f"lab keys remove {host}")
    paths.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    with whole_file(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{(text or secrets.token_hex(32)).strip()}\n")
    return path


def remove_key(paths: Paths, host: str) -> None:
    """Delete a host's key.

    Raises:
        LabError: it has none.
    """
    path = _file(paths, host)
    if not path.exists():
        raise LabError(f"{host} has no key", f"lab keys add {host}")
    path.unlink()


def key_of(paths: Paths, host: str) -> bytes | None:
    """Return the key of a host, or None.

    Raises:
        LabError: other users may read the file, or it holds no key.
    """
    path = _file(paths, host)
    try:
        text, mode = path.read_text(encoding="utf-8", errors="replace").strip(), path.stat().st_mode
    except FileNotFoundError:
        return None
    if mode & 0o077 and sys.platform != "win32":  # whose modes say nothing of other users
        raise LabError(f"other users may read the key in {path} (mode {mode & 0o777:o})", f"chmod 600 {path}")
    if not KEY.fullmatch(text):
        raise LabError(f"{path} holds no key", f"lab keys remove {host} && lab keys add {host}")
    return bytes.fromhex(text)


def hosts_with_keys(paths: Paths) -> list[str]:
    """Return the hosts that have a key here, by name."""
    return sorted(p.stem for p in paths.keys.glob("*.key"))


def require(paths: Paths, on: bool) -> None:
    """Set whether bundles without a valid signature are refused."""
    path = paths.keys / REQUIRED
    if on:
        write_whole(path, b"remove with: lab keys require --off\n")
    else:
        path.unlink(missing_ok=True)


def required(paths: Paths) -> bool:
    """Return True if bundles without a valid signature are refused."""
    return (paths.keys / REQUIRED).exists()


def refusal(paths: Paths, host: str, sha256: str, signed: str | None) -> str | None:
    """Return why a bundle of `host` is refused, or None.

    A wrong signature is always refused, a missing one only if keys are required.

    Args:
        signed: the signature in the bundle's name, or None.
    """
    key, needed = key_of(paths, host), required(paths)
    if key is None:
        return f"keys are required, and {host} has none here" if needed else None
    if signed is None:
        return f"keys are required, and this bundle of {host} is not signed" if needed else None
    if not hmac.compare_digest(signature(key, host, sha256), signed):
        return f"the signature is not {host}'s"
    return None


def sign_waiting(paths: Paths, host: str, key: bytes) -> int:
    """Sign the unsigned bundles in this host's spool; return their number."""
    found = 0
    for path in paths.spool.glob("*.parquet"):
        parts = path.name.split(".")
        if len(parts) == 3:
            path.rename(path.with_name(f"{parts[0]}.{parts[1]}.{signature(key, host, parts[1])}.parquet"))
            found += 1
    return found


def _file(paths: Paths, host: str) -> Path:
    return paths.keys / f"{checked_host(host)}.key"
