"""A server on 127.0.0.1 whose connections a subclass answers, each in its own thread."""

import socket
import ssl
import threading
from contextlib import suppress

TIMEOUT = 30  # seconds


class Listener:
    """Accepts connections until it is closed. `connected` answers one, which releases `closed` at its end."""

    def __init__(self, tls: ssl.SSLContext | None = None):
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.connections = 0
        self.closed = threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def connected(self, connection: socket.socket, number: int) -> None:
        """Answer on a connection, which is closed afterwards. `number`: of the connection, counted from 0."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread in `accept`, which would keep the port open
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._secured, args=(connection, self.connections), daemon=True).start()
            self.connections += 1

    def _secured(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(TIMEOUT)
        with suppress(OSError), connection:
            secured = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with secured:
                self.connected(secured, number)
        self.closed.release()
