"""A proxy in front of a real server, which fails single requests as an overloaded server or gateway does."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEFORE, AFTER = "500 before the request is carried out", "500 after it was carried out"
"""What happens to a request; a number of seconds is a hang before it is carried out."""

Fault = str | float | None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.next_fault()
        if isinstance(fault, float):
            time.sleep(fault)
        status, content, kind = (500, b"overloaded", "text/plain") if fault == BEFORE else self._forward(body)
        if fault == AFTER:
            status, content = 500, b"overloaded"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _forward(self, body: bytes) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target)
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Accept-Encoding")}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers.get("Content-Type", "application/json")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  # the library's names

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class FlakyProxy(ThreadingHTTPServer):
    """Forwards to ``target``, a port of this machine, with faults.

    Attributes:
        requests: how many requests came so far.
    """

    daemon_threads = True

    def __init__(self, target: int, fault: Callable[[int], Fault]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.requests = 0
        self._fault = fault
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        """The proxy's own address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self) -> Fault:
        """Count a request and return its fault."""
        with self._lock:
            self.requests += 1
            return self._fault(self.requests)


@contextmanager
def flaky_proxy(target: int, fault: Callable[[int], Fault]) -> Iterator[FlakyProxy]:
    """Run a proxy to a port of this machine; ``fault`` is given the number of each request, from 1."""
    proxy = FlakyProxy(target, fault)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
