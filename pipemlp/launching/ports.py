"""TCP ports: find a free one, and say early and clearly that one is taken."""

import errno
import os
import socket

from pipemlp.config.errors import ClusterError


def free_port() -> int:
    """A port that nobody listens on now; somebody may still take it before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def check_port(host: str, port: int) -> None:
    """Raise ClusterError when `port` cannot be listened on at `host`; a host that is not this machine passes.

    For use before the launcher starts, or in rank 0: under torchrun the agent holds MASTER_PORT itself, so do not ask.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ClusterError(
            f"cannot find the host {host} ({error.strerror}); set MASTER_ADDR to a known host"
        ) from error
    family, _, _, _, address = addresses[0]
    if _bind(family, address, host, port):
        # The store listens on all interfaces, so a listener on any other one is in its way as well.
        _bind(socket.AF_INET, ("", port), host, port)


def listen_on_loopback(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1 alone.

    Raises:
        ClusterError: if the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if not _bind_to(listener, ("127.0.0.1", port), "127.0.0.1", port):
            raise ClusterError("this machine has no loopback address 127.0.0.1; set MASTER_ADDR to one that it has")
    except ClusterError:
        listener.close()
        raise
    listener.listen(socket.SOMAXCONN)
    return listener


def own_port() -> int:
    """`MASTER_PORT` if the user set it, else one that is free now.

    Raises:
        ClusterError: if the user's is no port, or taken.
    """
    given = os.environ.get("MASTER_PORT", "")
    if not given:
        return free_port()
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= 65535):
        raise ClusterError(f"MASTER_PORT={given} is not a port; use 1024 to 65535")
    check_port("127.0.0.1", int(given))
    return int(given)


def _bind(family: int, address: tuple[object, ...], host: str, port: int) -> bool:
    """Try to listen on an address; False where the address belongs to another machine."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind_to(probe, address, host, port)


def _bind_to(own: socket.socket, address: tuple[object, ...], host: str, port: int) -> bool:
    try:
        own.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = f"set MASTER_PORT (or --master_port) to a free one, such as {free_port()}"
            raise ClusterError(f"port {port} is in use; {remedy}") from error
        if error.errno == errno.EADDRNOTAVAIL:
            return False
        raise ClusterError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return True
