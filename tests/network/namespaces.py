"""A network of several machines on one: a Linux network namespace each, and one more that is the switch between them.

Nothing is added to this machine's own network, so two such networks may have the same addresses, and none leads outside.
Only the network is apart: files, memory and processors are shared.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
from programs import found, require

SUBNET = "10.77.0"
# Ends well once a TCP connection to argv[1]:argv[2] comes about, tried again for argv[3] seconds; else with the last error.
CONNECT = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[3])
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), max(0.1, end - time.monotonic())).close()
        break
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.1)
"""


class NotPermitted(Exception):
    """Why there can be no namespaces here."""


def _ip(*arguments: str) -> str:
    done = subprocess.run([str(found("ip")), *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise NotPermitted(f"ip {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Network:
    """Machines by name; the first has the address 10.77.0.1, the second 10.77.0.2 and so on.

    `label` tells it from other networks of the same process.
    """

    def __init__(self, machines: Sequence[str], label: str = "main") -> None:
        self.machines = tuple(machines)
        self.label = label
        self._made: list[str] = []  # namespaces

    def _namespace(self, name: str) -> str:
        return f"lab-test-{os.getpid()}-{self.label}-{name}"

    @property
    def _switch(self) -> str:
        return self._namespace("switch")

    def address(self, machine: str) -> str:
        return f"{SUBNET}.{self.machines.index(machine) + 1}"

    def build(self) -> None:
        """Make namespaces, bridge and links.

        Raises:
            NotPermitted: the system allows no namespaces; what was made by then is still there.
        """
        require("ip", "nsenter")
        for name in ("switch", *self.machines):
            _ip("netns", "add", self._namespace(name))
            self._made.append(self._namespace(name))
            _ip("-n", self._namespace(name), "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for machine in self.machines:
            self._plug_in(machine)

    def _plug_in(self, machine: str) -> None:
        inside, port = self._namespace(machine), self._port(machine)
        pair = ("type", "veth", "peer", "name", "eth0", "netns", inside)
        _ip("-n", self._switch, "link", "add", port, *pair)
        _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", inside, "addr", "add", f"{self.address(machine)}/24", "dev", "eth0")
        _ip("-n", inside, "link", "set", "eth0", "up")

    def _port(self, machine: str) -> str:
        return f"port{self.machines.index(machine) + 1}"

    def cut(self, machine: str) -> None:
        """Pull the plug at the switch."""
        _ip("-n", self._switch, "link", "set", self._port(machine), "down")

    def mend(self, machine: str) -> None:
        """Plug in again."""
        _ip("-n", self._switch, "link", "set", self._port(machine), "up")

    def command(self, machine: str, command: Sequence[str]) -> list[str]:
        """`command` as it is started on a machine. Not `ip netns exec`, which hides /sys, and with it limits of memory."""
        return ["nsenter", f"--net=/run/netns/{self._namespace(machine)}", *command]

    def reaches(self, machine: str, address: str, port: int, timeout_s: float) -> bool:
        """Whether a TCP connection from a machine comes about within `timeout_s`."""
        command = self.command(machine, [sys.executable, "-c", CONNECT, address, str(port), str(timeout_s)])
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s + 60, check=False)
        assert done.returncode in (0, 1) and (done.returncode == 0 or "Error" in done.stderr), done.stderr
        return done.returncode == 0

    def tear_down(self) -> None:
        """End what still runs in the namespaces and remove them; their links go with them."""
        for namespace in reversed(self._made):
            left = []
            for pid in _ip("netns", "pids", namespace).split():
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.append(psutil.Process(int(pid)))
                    left[-1].kill()
            psutil.wait_procs(left, timeout=10)
            _ip("netns", "del", namespace)
        self._made.clear()

    def left(self) -> list[str]:
        """Namespaces of this network that the system still has."""
        folder = Path("/run/netns")
        return sorted(p.name for p in folder.glob(self._namespace("*"))) if folder.is_dir() else []
