"""Graphics processors, as the makers' programs and the kernel say they are; what those cannot say is passed on."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import pytest

from workpools import graphics, instruction_sets
from workpools.graphics import Cards, amd, apple, intel, nvidia

SYSTEM = os.environ["PATH"]


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fake programs, first in the PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{SYSTEM}")
    return folder


def tool(folder: Path, name: str, script: str) -> None:
    """A fake program of this name, in the place of the real one."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def prints(text: str, code: int = 0, to: int = 1) -> str:
    return f"cat >&{to} <<'END'\n{text}\nEND\nexit {code}"


H100, T4 = "NVIDIA H100 80GB HBM3, 81559 MiB, Disabled", "Tesla T4, 15360 MiB, [N/A]"
MIG = """case "$*" in
*-L*) echo 'GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89)'; echo '  MIG 3g.20gb     Device  0: (UUID: MIG-1)'
  echo '  MIG 1g.5gb      Device  1: (UUID: MIG-2)'; echo 'GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-77aa)' ;;
*) echo 'NVIDIA A100-SXM4-40GB, 40960 MiB, Enabled'; echo 'NVIDIA A100-SXM4-40GB, 40960 MiB, Enabled' ;;
esac"""
OLD_DRIVER = f"""case "$*" in
*mig*) {prints('Field "mig.mode.current" is not a valid field to query.', 2)};;
*) echo 'Tesla K80, 11441 MiB'; echo 'Tesla K80, 11441 MiB' ;;
esac"""
# What the program does -> cards, and the beginning of each reason (texts as drivers print them).
NVIDIA = {
    "several cards": (prints(f"{H100}\n\n{T4}"), ["NVIDIA H100 80GB HBM3, 81559 MiB", "Tesla T4, 15360 MiB"], []),
    "a driver without MIG": (OLD_DRIVER, ["Tesla K80, 11441 MiB", "Tesla K80, 11441 MiB"], []),
    "a divided card, and one without parts": (
        MIG,
        ["NVIDIA A100-SXM4-40GB, MIG 3g.20gb", "NVIDIA A100-SXM4-40GB, MIG 1g.5gb"],
        ["NVIDIA A100-SXM4-40GB is to be divided (MIG) and has no parts: nvidia-smi mig -cgi"],
    ),
    "a warning beside a card": (
        prints("Tesla P100-PCIE-16GB, 16280 MiB\nWARNING: infoROM is corrupted at gpu 0000:0B:00.0", 14),
        ["Tesla P100-PCIE-16GB, 16280 MiB"],
        ["nvidia-smi (exit code 14): WARNING: infoROM is corrupted at gpu 0000:0B:00.0; the card works, see:"],
    ),
    "one of two lost": (
        prints(f"{T4}\nUnable to determine the device handle for GPU 0000:02:00.0: GPU is lost.", 15),
        ["Tesla T4, 15360 MiB"],
        ["nvidia-smi (exit code 15): Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost"],
    ),
    "a lost card in its row": (
        prints(f"NVIDIA RTX A2000, [GPU is lost], [N/A]\n[Unknown Error], [Unknown Error], [N/A]\n{T4}"),
        ["Tesla T4, 15360 MiB"],
        ["NVIDIA RTX A2000 cannot be used, nvidia-smi: [GPU is lost]", "nvidia-smi: [Unknown Error], [Unknown"],
    ),
    "no memory of its own": (
        prints("NVIDIA GB10, [N/A], [N/A]\nGRID K520, [Not Supported], [N/A]"),
        ["NVIDIA GB10", "GRID K520"],
        ["memory of NVIDIA GB10 is not known, nvidia-smi: [N/A]", "memory of GRID K520 is not known, nvidia-smi: [Not"],
    ),
    "another driver than library": (
        prints("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.161", 18),
        None,
        [
            "NVIDIA's cards are not known, nvidia-smi (exit code 18): Failed to initialize NVML: Driver/library version "
            "mismatch NVML library version: 535.161; restart this machine"
        ],
    ),
    "no driver": (
        prints("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure.", 9),
        None,
        ["NVIDIA's cards are not known, nvidia-smi (exit code 9): NVIDIA-SMI has failed because it couldn't comm"],
    ),
    "no library, said elsewhere": (
        prints("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", 12, to=2),
        None,
        ["NVIDIA's cards are not known, nvidia-smi (exit code 12): NVIDIA-SMI couldn't find libnvidia-ml.so"],
    ),
    "no devices": (prints("No devices were found"), None, ["NVIDIA's cards are not known, nvidia-smi: No devices"]),
    "no devices, today": (
        prints("No devices were found", 6),
        None,
        ["NVIDIA's cards are not known, nvidia-smi (exit code 6): No devices were found"],
    ),
    "not a word": ("exit 0", None, ["NVIDIA's cards are not known, nvidia-smi: it lists no card"]),
    "a crash": ("kill -11 $$", None, ["NVIDIA's cards are not known, nvidia-smi (ended by signal 11)"]),
    "advice of a healthy program": (
        f"echo 'note: persistence mode is off' >&2; echo '{T4}'",
        ["Tesla T4, 15360 MiB"],
        [],
    ),
    "a question": (f"read answer; echo '{T4}'", ["Tesla T4, 15360 MiB"], []),
    "a name without end": (f"echo '{'N' * 5000}, 1 MiB, [N/A]'", [f"{'N' * 100}, 1 MiB"], []),
}


@pytest.mark.parametrize("name", NVIDIA)
def test_only_rows_are_cards_and_each_failure_has_its_reason(tools: Path, name: str) -> None:
    """A warning made a card disappear, an error was taken for a card, and a broken driver was "no GPU" without a word."""
    script, cards, reasons = NVIDIA[name]
    tool(tools, "nvidia-smi", script)
    found = nvidia(60)
    assert found.names == tuple(cards or ())
    assert found.known == (cards is not None)
    assert len(found.reasons) == len(reasons)
    assert all(said.startswith(begin) for said, begin in zip(found.reasons, reasons, strict=True)), found.reasons


@pytest.mark.parametrize(
    "script", ["exec sleep 100", "sleep 100", f"echo '{T4}'; sleep 100", "trap '' TERM; sleep 100"]
)
def test_a_program_that_hangs_is_ended_with_what_it_started(tools: Path, script: str) -> None:
    """Its child held the output open, so that it was waited for after its time; cards that it named before are listed."""
    tool(tools, "nvidia-smi", script)
    tool(tools, "rocm-smi", script)
    began = time.monotonic()
    found = nvidia(0.3)
    assert time.monotonic() - began < 20
    assert found.names == (("Tesla T4, 15360 MiB",) if "T4" in script else ())
    assert "nvidia-smi (did not answer within 0.3 s)" in found.reasons[-1]
    assert any("rocm-smi (did not answer within 0.3 s)" in reason for reason in amd(0.3, tools).reasons)


def test_a_program_that_is_none_is_said(tools: Path) -> None:
    """A program for another processor is neither a traceback nor a machine without a card."""
    (tools / "nvidia-smi").write_bytes(b"\x7fELF of another machine")
    (tools / "nvidia-smi").chmod(0o755)
    assert nvidia(60).reasons[0].startswith("NVIDIA's cards are not known, nvidia-smi (cannot be started: ")


def card(drm: Path, name: str, vendor: str, device: str) -> None:
    write(drm / name / "device/vendor", vendor)
    write(drm / name / "device/device", device)


def test_cards_without_their_makers_program_are_found_on_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most machines with an AMD or Intel card have no program for it; NVIDIA's is of no use without its driver."""
    drm = tmp_path / "sys/class/drm"
    for each in (
        ("card0", "0x8086", "0x9a49"),
        ("card10", "0x1002", "0x164e"),
        ("card2", "0x1002", "0x73bf"),
        ("card3", "0x10de", "0x2684"),
        ("card4", "0x1a03", "0x2000"),  # a server's screen
        ("card2-HDMI-A-1", "0x1002", "0x73bf"),  # a connector
    ):
        card(drm, *each)
    write(drm / "card2/device/mem_info_vram_total", 16368 * 2**20)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert amd(root=tmp_path) == Cards(("AMD GPU 0x73bf, 16368 MiB", "AMD GPU 0x164e"))
    assert intel(tmp_path) == Cards(("Intel GPU 0x9a49",))
    missing = "NVIDIA GPU 0x2684 is there, but nvidia-smi is not: install NVIDIA's driver"
    assert nvidia(root=tmp_path) == Cards((), (missing,), known=False)
    nothing = tmp_path / "none"
    assert nvidia(root=nothing) == amd(root=nothing) == intel(nothing) == Cards()


ROCM = {
    "card10": {"Card series": "Navi 21 [Radeon RX 6800]", "Card SKU": "001"},
    "card0": {"VRAM Total Memory (B)": "21458059264", "Card Series": "Radeon RX 7900 XT", "Card Model": "0x744c"},
    "card2": {"Card Series": "AMD Instinct MI250", "VRAM Total Memory (B)": "N/A"},
    "card3": {"Card Series": "N/A", "Card SKU": "N/A", "Card Model": "0x73bf", "VRAM Total Memory (B)": "17163091968"},
    "card4": {},
    "system": {"Driver version": "6.8"},
}
NAMES = (
    "AMD Radeon RX 7900 XT, 20464 MiB",
    "AMD Instinct MI250",
    "AMD GPU 0x73bf, 16368 MiB",
    "AMD GPU",
    "AMD Navi 21 [Radeon RX 6800]",
)
LOW = "WARNING: AMD GPU device(s) is/are in a low-power state."


@pytest.mark.parametrize(
    ("script", "names", "reasons"),
    [
        (prints(json.dumps(ROCM)), NAMES, []),
        (prints(f"{LOW}\n\n{json.dumps(ROCM)}"), NAMES, [f"rocm-smi: {LOW[:-1]}"]),
        (
            prints(f"{json.dumps(ROCM)}\nWARNING: One or more commands failed", 2),
            NAMES,
            ["rocm-smi (exit code 2): WARNING"],
        ),
        (
            prints("ERROR:root:Driver not initialized"),
            (),
            ["AMD's cards are not known, rocm-smi: ERROR:root:Driver not"],
        ),
        (prints("rsmi_init() failed", 1, to=2), (), ["AMD's cards are not known, rocm-smi (exit code 1): rsmi_init"]),
        (prints('{"card0": {}'), (), ['AMD\'s cards are not known, rocm-smi: {"card0": {}']),
        (prints('{"card0": 1, "cardX": {}}'), (), []),
        (prints("[" * 20_000), (), ["AMD's cards are not known, rocm-smi: [[["]),
        (prints('{"a":' * 20_000), (), ["AMD's cards are not known, rocm-smi: {"]),
    ],
    ids="plain,warned,failed,no driver,no start,cut,no cards,deep list,deep".split(","),
)
def test_amds_cards_are_named_as_rocm_names_them(
    tools: Path, script: str, names: tuple[str, ...], reasons: list[str]
) -> None:
    """Releases of ROCm differ, say "N/A" for a name, and warn before or after what is asked for."""
    tool(tools, "rocm-smi", script)
    found = amd(60, tools)
    assert found.names == names
    assert [said.startswith(begin) for said, begin in zip(found.reasons, reasons, strict=True)] == [True] * len(reasons)
    card(tools / "sys/class/drm", "card0", "0x1002", "0x744c")
    assert amd(60, tools).names == (names or ("AMD GPU 0x744c",))


def test_apples_chips_are_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Apple Silicon the chip is the GPU; an Intel Mac has none that computes for us, nor has a Python made for Intel."""
    flags = "hw.optional.neon: 1"
    tool(
        tools,
        "sysctl",
        f'case "$*" in *brand*) echo "Apple M2 Pro";; *translated) echo $ROSETTA;; *) echo "{flags}";; esac',
    )
    assert apple(60) == Cards()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert apple(60) == Cards(("Apple M2 Pro",))
    assert instruction_sets.cpu_flags(60) == ["asimd"]
    tool(tools, "sysctl", "exit 1")
    assert apple(60) == Cards(("Apple",), ("the name of Apple's chip is not known: sysctl does not say it",))
    assert instruction_sets.cpu_flags(60) is None
    tool(tools, "sysctl", "echo $ROSETTA")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert apple(60) == Cards()
    monkeypatch.setenv("ROSETTA", "1")
    assert "install one for arm64" in apple(60).reasons[0]


def test_cards_that_are_hidden_from_programs_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch computes without the card that a machine is listed with."""
    for name in graphics.VISIBLE:
        monkeypatch.delenv(name, raising=False)
    assert list(graphics.hidden(["Tesla T4"])) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert list(graphics.hidden([])) == []
    assert list(graphics.hidden(["Tesla T4"])) == [
        "programs see only the graphics processors of CUDA_VISIBLE_DEVICES = '-1'"
    ]
