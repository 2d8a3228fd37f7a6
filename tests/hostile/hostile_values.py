"""What attackers and accidents put where a name, a path, a number or an object is expected."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

# Traversal, SQL, control characters, terminal escapes, half surrogates, formats, shells, and sheer size.
TEXTS = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "..\\..\\x",
    "/etc/passwd",
    "a/../b",
    "%2e%2e%2f",
    "~root",
    "a\x00b",
    "a\nb",
    "\r\n\r\nGET /",
    "'; DROP TABLE trials; --",
    "\"; ATTACH '/etc/passwd' AS x; --",
    "x' OR '1'='1",
    "Robert'); DELETE FROM bundles;--",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egpj.exe",
    "\ud800",
    "\udcff",
    "\ufeff",
    "é" * 300,
    "a" * 5000,
    "{0.__class__}",
    "%s%n%x",
    "$(touch owned)",
    "`touch owned`",
    "; touch owned",
    "| touch owned",
    "--help",
    "-rf",
    "{{ command }}",
    "{% raw %}",
    "null",
    "NaN",
    "1e999",
    "０１２",
    "COM1",
    "con.txt",
    " leading",
    "trailing ",
    "CAPITALS",
    "a.b",
    "a_b",
    "-",
    "x" * 64,
]
texts = st.sampled_from(TEXTS) | st.text(max_size=60)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**63, -(2**63), 10**400, -1, 0, 1e308, float("inf"), float("nan")])
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3), max_leaves=6)


def deep(levels: int) -> Any:
    """Lists in lists, deeper than a recursive reader can follow."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


def fingerprint(root: Path, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Every file and link below a folder with a digest of what it holds; top folders in `without` are left out."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if name.parts[0] in without:
            continue
        if path.is_symlink():
            found[str(name)] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
