"""Proxies that the environment names: addresses of this machine and of its own networks are reached without them.

Libraries read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY each in its own way, and httpx fails on values that others take.
So a process of lab writes them once in a form that all libraries read; what it starts inherits that.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit

NAMES = ("http_proxy", "https_proxy", "all_proxy")
NO_PROXY = ("NO_PROXY", "no_proxy")  # curl reads both, Python the second before the first
CERTIFICATES = ("SSL_CERT_FILE",)  # which httpx reads as well, and fails where there is none
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Names that no public name server knows: RFC 6761, 6762, 8375, and what home routers use.
PRIVATE = (
    ".localhost",
    ".local",
    ".localdomain",
    ".lan",
    ".home",
    ".home.arpa",
    ".internal",
    ".intranet",
    ".fritz.box",
)
LEFT_OUT = "LAB_LEFT_OUT_"  # before the name of a variable that was taken out of the environment
PLAIN = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9._-]*(?::[0-9]{1,5})?")  # a name, of which each library makes the same
SETTINGS = ("PREFECT_API_URL", "LAB_RESULTS_URL", "OLLAMA_HOST")  # variables with addresses that lab asks
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def prepare() -> None:
    """Write this process's variables anew: own addresses without a proxy, and no value that httpx cannot read."""
    environment = os.environ
    for scheme, proxy in _of_the_system().items():  # which are not read any more once one variable is set
        if f"{scheme}_proxy" in NAMES and not _set(environment, (f"{scheme}_proxy",)):
            environment[f"{scheme}_proxy"] = proxy
    bad = [n for n, value in environment.items() if n.lower() in NAMES and not _usable(value)]
    for name in [*bad, *(n for n in CERTIFICATES if n in environment and not _readable(environment[n]))]:
        environment[LEFT_OUT + name] = environment.pop(name)
    if any(name in environment for name in NO_PROXY):
        _write(environment, _excepted(environment))
    bypass(*LOOPBACK, *(environment.get(name, "") for name in SETTINGS))


def bypass(*urls: str) -> None:
    """Have this process, and what it starts, reach the hosts of `urls` without a proxy, where they are own ones."""
    environment = os.environ
    if not _set(
        environment, (*NAMES, "socks_proxy", "ws_proxy", "wss_proxy")
    ):  # the last three are those of websockets
        return
    given = _excepted(environment)
    found = [host for url in urls if (host := host_of(url)) and (is_own(host) or _in_network(host, given))]
    if "*" not in given:
        _write(environment, [*given, *filter(None, map(_entry, found))])


def variable_for(url: str) -> str | None:
    """Return the name of the variable whose proxy a request to `url` goes through, None without one."""
    environment, host = os.environ, _entry(host_of(url))
    given = _excepted(environment)
    direct = {"*", host, f".{host}"} & set(given) or any(f".{host}".endswith(f".{e.lstrip('.')}") for e in given)
    names = () if direct else (f"{urlsplit(url).scheme}_proxy", "all_proxy")
    return next((name for wanted in names for name in (wanted, wanted.upper()) if environment.get(name)), None)


def left_out() -> dict[str, str]:
    """Return the variables that `prepare` took out of the environment, by name."""
    return {name.removeprefix(LEFT_OUT): value for name, value in os.environ.items() if name.startswith(LEFT_OUT)}


def host_of(url: str) -> str:
    """Return the host of an address, also of one without a scheme; "" if it has none."""
    with suppress(ValueError):
        return urlsplit(url if "//" in url else f"//{url}").hostname or ""
    return ""


@cache
def is_own(host: str) -> bool:
    """Return True for a name or address of this machine, its networks, or private networks at all."""
    with suppress(ValueError):
        return _is_own_address(_address(host))
    name = host.rstrip(".").lower()
    if "." not in name or name.endswith(PRIVATE):
        return True
    try:
        found = {_address(str(info[4][0])) for info in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(map(_is_own_address, found))


def _address(text: str) -> Address:
    found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


def _is_own_address(address: Address) -> bool:
    return not address.is_global or any(address in network for network in _networks())


def _networks() -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Yield the networks of this machine's interfaces."""
    import psutil

    for each in psutil.net_if_addrs().values():
        for one in each:
            with suppress(ValueError):
                length = int(ipaddress.ip_address(one.netmask or "")).bit_count()
                yield ipaddress.ip_network(f"{one.address.partition('%')[0]}/{length}", strict=False)


def _of_the_system() -> dict[str, str]:
    """Return the proxies in the settings of macOS or Windows, by scheme, unless there are variables."""
    if sys.platform not in ("darwin", "win32"):
        return {}
    from urllib.request import getproxies

    return getproxies()


def _set(environment: MutableMapping[str, str], names: Collection[str]) -> bool:
    return any(value and name.lower() in names for name, value in environment.items())


def _usable(proxy: str) -> bool:
    """Return True if httpx can use a proxy; it fails on others also where none is needed."""
    try:
        proxy = proxy.strip()
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        socks = parts.scheme in ("socks5", "socks5h") and find_spec("socksio") is not None
        return bool(parts.hostname and parts.port != 0) and (parts.scheme in ("http", "https") or socks)
    except ValueError:
        return False


def _readable(certificates: str) -> bool:
    import ssl

    try:
        ssl.create_default_context(cafile=certificates)
    except OSError:
        return False
    return True


def _excepted(environment: MutableMapping[str, str]) -> list[str]:
    """Return the entries of NO_PROXY in forms that all libraries read; others are left out."""
    words = [word for name in NO_PROXY for word in re.split(r"[\s,;]+", environment.get(name, ""))]
    return list(dict.fromkeys(entry for word in words if (entry := _entry(word.strip("\"'")))))


def _entry(word: str) -> str:
    """Return a word of NO_PROXY as all libraries read it, "" if there is no such form."""
    bare = word.rpartition("://")[2]
    with suppress(ValueError):
        network = ipaddress.ip_network(bare, strict=False)
        if network.prefixlen < network.max_prefixlen:
            return bare if network.version == 4 else ""
    bare = bare.partition("/")[0]
    with suppress(ValueError):
        return str(_address(bare.partition("]")[0]))
    bare = bare.removeprefix("*") if bare.startswith("*.") else bare
    with suppress(UnicodeError):
        bare = bare if bare.isascii() else bare.encode("idna").decode()
        return bare if bare == "*" or PLAIN.fullmatch(bare) else ""
    return ""


def _in_network(host: str, given: list[str]) -> bool:
    """Return True for an address in a network of NO_PROXY, which httpx does not read as such."""
    with suppress(ValueError):
        address = _address(host)
        return any(address in ipaddress.ip_network(entry, strict=False) for entry in given if "/" in entry)
    return False


def _write(environment: MutableMapping[str, str], entries: list[str]) -> None:
    # httpx compares a name that begins with another script's letters decoded, and an entry only if it has a scheme.
    written = [form for e in entries for form in ([e, f"all://{e}"] if e.startswith("xn--") else [e])]
    for name in NO_PROXY:
        environment[name] = ",".join(dict.fromkeys(written))
