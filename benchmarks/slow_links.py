"""Slow links on one machine: every replica in a network namespace, joined by a switch that is one too.

    replica 0 --- link --- |switch|     each end of a link passes its token bucket: so many bits a second go out of a
    replica 1 --- link --- |      |     replica, and as many come in, whoever sends them
    ...

Needs root, and Linux with iproute2. Namespaces go with what is in them; they are removed whatever happens inside.
"""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

INTERFACE = "link0"
NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of setns(2)."""
QUEUE_SECONDS = 0.05
"""What may wait in a token bucket before it drops packets."""


@dataclass(frozen=True)
class Rate:
    """What a link lets through.

    Args:
        megabits: per second.
        burst_bytes: what passes unhindered after a pause. A few packets make small messages slow too; but a bucket so
            small loses what it could not hand out when it is woken late, as it is where all cores are busy.
    """

    megabits: int
    burst_bytes: int


@dataclass(frozen=True)
class SlowLinks:
    """Where the processes of replicas go.

    Args:
        namespaces: of the replicas.
        rate: out of each and into each.
    """

    namespaces: tuple[str, ...]
    rate: Rate

    def address(self, replica: int) -> str:
        """Of a replica, as the others reach it."""
        return f"10.77.0.{replica + 1}"

    def enter(self, replica: int) -> None:
        """Put this process there; before it opens a socket or starts a thread.

        Raises:
            OSError: if the kernel refuses.
        """
        library = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespaces[replica]}", "rb") as file:
            if library.setns(file.fileno(), NEW_NETWORK):
                raise OSError(ctypes.get_errno(), f"setns to {self.namespaces[replica]}")
        os.environ.update(GLOO_SOCKET_IFNAME=INTERFACE, MASTER_ADDR=self.address(0))


def missing() -> str | None:
    """Why slow links cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "slow links need root, for network namespaces"
    absent = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return f"slow links need {' and '.join(absent)}, of the package iproute2" if absent else None


@contextmanager
def slow_links(num_replicas: int, rate: Rate) -> Iterator[SlowLinks]:
    """Make them, and remove them at the end: also after an error, an interrupt, or a request to end.

    Raises:
        RuntimeError: with what `ip` or `tc` said.
    """
    names = [f"pipemlp-{os.getpid()}-{which}" for which in ("switch", *range(num_replicas))]
    with _ended_by_exception():
        try:
            for name in names:
                _run(f"ip netns add {name}")
            _run(f"ip -n {names[0]} link add bridge0 type bridge")
            _run(f"ip -n {names[0]} link set bridge0 up")
            links = SlowLinks(tuple(names[1:]), rate)
            for replica in range(num_replicas):
                _join(links, names[0], replica)
            yield links
        finally:
            for name in names:
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _join(links: SlowLinks, switch: str, replica: int) -> None:
    """One replica's link to the switch."""
    own, port = links.namespaces[replica], f"port{replica}"
    rate, queue = links.rate, round(1000 * QUEUE_SECONDS)
    bucket = f"root tbf rate {rate.megabits}mbit burst {rate.burst_bytes} latency {queue}ms"
    _run(f"ip -n {own} link add {INTERFACE} type veth peer name {port} netns {switch}")
    _run(f"ip -n {own} address add {links.address(replica)}/24 dev {INTERFACE}")
    _run(f"ip -n {own} link set lo up")
    _run(f"ip -n {own} link set {INTERFACE} up")
    _run(f"ip -n {switch} link set {port} master bridge0")
    _run(f"ip -n {switch} link set {port} up")
    _run(f"tc -n {own} qdisc add dev {INTERFACE} {bucket}")
    _run(f"tc -n {switch} qdisc add dev {port} {bucket}")


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")


@contextmanager
def _ended_by_exception() -> Iterator[None]:
    """A request to end becomes an exception, so that what is to be removed is removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
