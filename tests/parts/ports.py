"""Free ports of the loopback for servers of the tests."""

import random
import socket

from tests.parts.errors import PartError

# Below the ports that systems give to outgoing connections: while a server is down, nobody else may get its port.
FIRST_PORT, LAST_PORT = 20_000, 32_000


def free_port() -> int:
    """Return a port of the loopback that nobody listens on and no outgoing connection gets."""
    for port in random.sample(range(FIRST_PORT, LAST_PORT), 200):
        if port_is_free(port):
            return port
    msg = f"no free port between {FIRST_PORT} and {LAST_PORT}"
    raise PartError(msg)


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on a port of the loopback."""
    with socket.socket() as probe:
        # As servers do it: connections that are just closed are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
