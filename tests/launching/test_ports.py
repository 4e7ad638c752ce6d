import re
import socket

import pytest

from pipemlp.config.errors import ClusterError
from pipemlp.launching.ports import check_port, free_port, listen_on_loopback


def test_free_port():
    port = free_port()
    assert 1024 <= port <= 65535
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("listener", ["", "127.0.0.1", "127.0.0.2"])
def test_port_in_use(listener):
    with socket.socket() as taken:
        taken.bind((listener, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError) as error:
            check_port("127.0.0.1", port)
    pattern = rf"port {port} is in use; set MASTER_PORT \(or --master_port\) to a free one, such as (\d+)"
    match = re.fullmatch(pattern, str(error.value))
    assert match
    check_port("localhost", int(match[1]))


def test_a_loopback_listener_is_reached_from_this_machine_only():
    port = free_port()
    with listen_on_loopback(port) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        with pytest.raises(ClusterError, match=f"port {port} is in use; set MASTER_PORT"):
            listen_on_loopback(port)


def test_a_host_of_another_machine_is_not_ours_to_check():
    check_port("192.0.2.1", free_port())


def test_unknown_host():
    with pytest.raises(ClusterError, match=r"cannot find the host no\.such\.host\.invalid"):
        check_port("no.such.host.invalid", 29500)
