"""A network that loses answers: TCP connections that end when the server has done its work."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress


class Proxy:
    """Passes on what a client and a server say to each other until it is told to lose an answer."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: What a request has in it whose answer is to be lost; emptied once one was.
        self.losing: list[Sequence[bytes]] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self._sockets: list[socket.socket] = []

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # once it is closed
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=[client], daemon=True)
                self._threads.append(thread)
                self._sockets.append(client)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            is_lost = False
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client:
                        is_lost = is_lost or any(
                            word in data for words in self.losing for word in words
                        )
                        server.sendall(data)
                    elif is_lost and not data.startswith(b"-NOSCRIPT"):
                        self.losing.clear()
                        return
                    else:
                        is_lost = False
                        client.sendall(data)
