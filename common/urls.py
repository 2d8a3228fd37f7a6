"""Users, passwords and keys in URLs: they are used, and neither shown nor stored."""

from __future__ import annotations

import os
import re
from functools import cache

HIDDEN = "***"
# Of these a name alone is no secret, and is needed to connect: users of ssh, containers of Azure's stores.
NAMED = ("ssh", "sftp", "rsync+ssh", "git+ssh", "abfs", "abfss")
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
# Up to the last @ before the path; or, where a password has an unescaped slash, up to the next @ after a colon before no port.
USERINFO = re.compile(rf"\b({SCHEME})://(?:([^\s/?#\"<>]*)@|([^\s/?#@:\[\"<>]*:(?![0-9]*(?:[/?#]|$))[^\s@\"<>]*)@)")
SETTING = re.compile(rf"(?:{SCHEME}://)?(?:([^/?#]*)@|([^/?#@:\[]*:(?![0-9]*(?:[/?#]|$)).*)@)")
QUERY = re.compile(
    r"([?&][\w.-]*(?:token|key|secret|sig|signature|passw(?:or)?d|credential)=)[^\s&#\"'<>]+", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """Return a text without the users, passwords and keys of the URLs in it.

    Those in the URLs of this process's environment are left out wherever they stand, also without a scheme before them.
    """
    for secret in _in_settings(tuple(v for v in os.environ.values() if "@" in v)):
        text = text.replace(secret, "")
    return QUERY.sub(rf"\1{HIDDEN}", USERINFO.sub(_bare, text)) if "://" in text else text


def _bare(found: re.Match[str]) -> str:
    scheme, user = found[1], found[2]
    return found[0] if user is not None and ":" not in user and scheme.lower() in NAMED else f"{scheme}://"


@cache
def _in_settings(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return "user:password@" of each value that is such a URL, also of one without a scheme, as Ollama reads them."""
    found = {f"{user}@" for v in values if (m := SETTING.match(v.strip())) and ":" in (user := m[1] or m[2] or "")}
    return tuple(sorted(found, key=len, reverse=True))
