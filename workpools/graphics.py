"""Graphics processors of this host: what the makers' programs say, else what the system lists on its bus.

Only a line that is a card counts as one. Whatever else a program says is passed on as the reason why more is not known.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.cgroups import system_text
from common.resources import ROOT
from workpools.tools import Answer, ask

MAKERS = {"0x1002": "AMD", "0x8086": "Intel", "0x10de": "NVIDIA"}  # by number of the PCI bus
LONGEST_NAME = 100  # characters
MOST_CARDS = 64
LONGEST_REASON = 300  # characters of what a program said
QUERY = ["nvidia-smi", "--format=csv,noheader", "--query-gpu=name,memory.total"]
MIG_MODE = ",mig.mode.current"  # unknown to drivers before 450
ROW = re.compile(r"([^\[\],][^,]*(?:, [^,]+)*?), (\d+ [KMGT]i?B|\[?N/A\]?|\[[^\]]*\])(?:, (\S.*))?")
# In the place of the memory: what a healthy card may say that has none of its own, or does not tell everyone.
NO_MEMORY = {"N/A", "[N/A]", "[Not Supported]", "[Insufficient Permissions]"}
MENDS = {
    "version mismatch": "restart this machine, whose driver was updated while it ran",
    "communicate with the NVIDIA driver": "install NVIDIA's driver, or load it: modprobe nvidia",
    "libnvidia-ml": "install the driver's libraries, or start the container with its cards",
    "Insufficient Permissions": "let this user read /dev/nvidia*",
    "infoROM": "the card works, see: nvidia-smi -q",
}
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Cards(NamedTuple):
    """Graphics processors by name, with memory where it is known, and what could not be learned; a driver may be silent."""

    names: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    known: bool = True  # False: there may be others


def nvidia(timeout_s: float = 5, root: Path = ROOT) -> Cards:
    """Return NVIDIA's cards; of one that is divided (MIG) its parts, since nothing can compute on the whole."""
    deadline = time.monotonic() + timeout_s
    said = ask([*QUERY[:-1], QUERY[-1] + MIG_MODE], timeout_s)
    if said is not None and "not a valid field" in said.text + said.errors:
        said = ask(QUERY, deadline - time.monotonic())
    if said is None:
        there = [f"{card} is there, but nvidia-smi is not: install NVIDIA's driver" for card in _bus(root, "NVIDIA")]
        return _limited([], there, known=not there)
    rows, other = _rows(said.text)
    parts = _parts(deadline) if any(row.mig not in ("Disabled", "[N/A]") for row in rows) else {}
    names, reasons = list[str](), list[str]()
    for index, row in enumerate(rows):
        if row.memory not in NO_MEMORY and row.memory.startswith("["):
            reasons.append(f"{row.name} cannot be used, nvidia-smi: {row.memory}")
        elif index in parts:
            names += [f"{row.name}, MIG {part}" for part in parts[index]]
        elif row.mig == "Enabled":
            reasons.append(f"{row.name} is to be divided (MIG) and has no parts: nvidia-smi mig -cgi 0 -C")
        elif row.memory in NO_MEMORY:
            names.append(row.name)
            reasons.append(f"memory of {row.name} is not known, nvidia-smi: {row.memory}")
        else:
            names.append(f"{row.name}, {row.memory}")
    if why := _why("nvidia-smi", said, other, silent="" if rows else "it lists no card"):
        reasons.append(why if rows else f"NVIDIA's cards are not known, {why}")
    return _limited(names, reasons, known=bool(rows))


class _Row(NamedTuple):
    name: str
    memory: str
    mig: str


def _rows(text: str) -> tuple[list[_Row], list[str]]:
    """Return the cards of a CSV output, and all other lines."""
    rows, other = list[_Row](), list[str]()
    for line in filter(None, map(str.strip, text.splitlines())):
        if found := ROW.fullmatch(line):
            rows.append(_Row(found[1][:LONGEST_NAME], found[2], found[3] or ""))
        else:
            other.append(line)
    return rows, other


def _parts(deadline: float) -> dict[int, list[str]]:
    """Return the parts of divided cards, as in 3g.20gb, by place of the card."""
    said = ask(["nvidia-smi", "-L"], max(0.1, deadline - time.monotonic()))
    found: dict[int, list[str]] = {}
    card = -1  # a card that was lost is in neither list, so they are numbered by their order
    for line in said.text.splitlines() if said else ():
        if re.match(r"GPU \d+: ", line):
            card += 1
        elif part := re.match(r"\s+MIG (\S{1,40})\s+Device\s+\d+:", line):
            found.setdefault(card, []).append(part[1])
    return found


def amd(timeout_s: float = 5, root: Path = ROOT) -> Cards:
    """Return AMD's cards as ROCm names them, else as the kernel lists them."""
    said = ask(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"], timeout_s)
    if said is None:
        return Cards(tuple(_bus(root, "AMD")))
    names, other = _of_rocm(said.text)
    why, names = _why("rocm-smi", said, other, silent=""), names or _bus(root, "AMD")
    return _limited(names, [why if names else f"AMD's cards are not known, {why}"] if why else [], known=not why)


def _of_rocm(text: str) -> tuple[list[str], list[str]]:
    """Return names and memory of cards in the JSON of rocm-smi, and the lines before and after it."""
    start, cards, end = text.find("{"), dict[str, Any](), len(text)
    if start >= 0:
        try:
            read, end = json.JSONDecoder().raw_decode(text, start)
            cards = read if isinstance(read, dict) else {}
        except (ValueError, RecursionError):
            start = -1
    other = text if start < 0 else f"{text[:start]}\n{text[end:]}"
    found = {int(k[4:]): v for k, v in cards.items() if re.fullmatch(r"card\d{1,4}", k) and isinstance(v, dict)}
    return [_rocm_name(found[n]) for n in sorted(found)], [line for line in map(str.strip, other.splitlines()) if line]


def _rocm_name(card: dict[str, Any]) -> str:
    # Releases of ROCm differ in the capital letter, and say "N/A" or a number of the bus for what they do not know.
    said = [
        str(card.get(key, "")).strip() for key in ("Card Series", "Card series", "Card SKU", "Card Model", "Card model")
    ]
    known = [name for name in said if name and name != "N/A"]
    name = next((name for name in known if not name.startswith("0x")), None)
    return _named("AMD", name or " ".join(["GPU", *known[:1]]), str(card.get("VRAM Total Memory (B)", "")))


def intel(root: Path = ROOT) -> Cards:
    """Return Intel's graphics processors, as the kernel lists them."""
    return _limited(_bus(root, "Intel"))


def apple(timeout_s: float = 5) -> Cards:
    """Return the graphics processor of an Apple chip by the name of the chip."""
    if platform.system() != "Darwin":
        return Cards()
    if platform.machine() != "arm64":
        translated = ask(["sysctl", "-n", "sysctl.proc_translated"], timeout_s)
        if translated is None or translated.text.strip() != "1":
            return Cards()
        return Cards(reasons=("this Python is made for Intel and cannot use Apple's chip: install one for arm64",))
    said = ask(["sysctl", "-n", "machdep.cpu.brand_string"], timeout_s)
    name = said.text.strip()[:LONGEST_NAME] if said else ""
    return (
        Cards((name,))
        if name
        else Cards(("Apple",), ("the name of Apple's chip is not known: sysctl does not say it",))
    )


def hidden(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each setting by which programs see other cards than there are."""
    for setting in VISIBLE if names else ():
        if (value := os.environ.get(setting)) is not None:
            yield f"programs see only the graphics processors of {setting} = {value[:40]!r}"


def _bus(root: Path, maker: str) -> list[str]:
    """Return a maker's cards among the kernel's graphics devices."""
    cards = [p for p in (root / "sys/class/drm").glob("card*") if re.fullmatch(r"card\d{1,4}", p.name)]
    return [
        _named(
            maker,
            f"GPU {system_text(card / 'device/device').strip()}".strip(),
            system_text(card / "device/mem_info_vram_total"),
        )
        for card in sorted(cards, key=lambda p: int(p.name.removeprefix("card")))
        if MAKERS.get(system_text(card / "device/vendor").strip()) == maker
    ]


def _named(maker: str, name: str, memory_bytes: str) -> str:
    known = memory_bytes.strip()
    size = f", {int(known) / 2**20:.0f} MiB" if re.fullmatch(r"\d{1,18}", known) else ""  # MiB as in nvidia-smi
    return f"{name if maker in name else f'{maker} {name}'}"[:LONGEST_NAME] + size


def _why(program: str, said: Answer, other: Sequence[str], silent: str) -> str:
    """Return a line with what a program said beside its cards and how it ended; "" if there is nothing to say."""
    # What a healthy program writes to stderr is advice.
    text = " ".join(" ".join([*other, said.errors if said.ended and not other else ""]).split())[
        :LONGEST_REASON
    ].rstrip(".")
    if not said.ended:
        text = text or silent
    if not (said.ended or text):
        return ""
    mend = next((mend for sign, mend in MENDS.items() if sign.lower() in text.lower()), "")
    return (
        f"{program}{f' ({said.ended})' if said.ended else ''}{f': {text}' if text else ''}{f'; {mend}' if mend else ''}"
    )


def _limited(names: Sequence[str], reasons: Sequence[str] = (), known: bool = True) -> Cards:
    return Cards(tuple(names[:MOST_CARDS]), tuple(reasons[:MOST_CARDS]), known)
