"""Ports for programs that cannot choose one themselves."""

import random
import socket

# Systems choose the ports of outgoing connections from 32768 (Linux) or 49152 (macOS) upwards. A port of that range
# could be taken by any connection between this answer and the start of the program.
_PORTS = list(range(20_000, 32_768))
# Several test processes run at the same time, and each begins elsewhere.
random.SystemRandom().shuffle(_PORTS)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, never the same one again."""
    while True:
        port = _PORTS.pop()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
