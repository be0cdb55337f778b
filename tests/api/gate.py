"""A front of the API server that can say 429, as a busy one does.

The API server's own throttling always lets one request at a time through, and one agent never makes two.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lab.controlplane import ControlPlane

RETRY_AFTER_SECONDS = 1
_BUSY = {"kind": "Status", "status": "Failure", "reason": "TooManyRequests", "message": "busy", "code": 429}
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Gate(ThreadingHTTPServer):
    """Passes requests on and counts them; a watch counts once. Trusted as the API server itself is."""

    daemon_threads = True

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plane = plane
        self.requests = 0
        self.busy = False
        self.under_way: set[socket.socket] = set()
        # a request let through is under way before throttle() ends what is, or its watch would outlive that
        self.deciding = threading.Lock()
        self.trust = ssl.create_default_context(cafile=str(plane.pki.ca))
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(plane.pki.certificate("apiserver"), plane.pki.key("apiserver"))
        self.socket = own.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def throttle(self) -> None:
        """Every request is answered with 429 from now on, and what is under way ends, the watches too."""
        with self.deciding:
            self.busy = True
            ends = list(self.under_way)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def within(self, seconds: float) -> int:
        """How many requests come in a window of time."""
        before = self.requests
        time.sleep(seconds)  # what is counted is what comes within it
        found = self.requests - before
        print(f"{found} requests in {seconds:g} s")
        return found

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is none of a test's business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def _answer(self) -> None:
        self.server.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        far = http.client.HTTPSConnection("127.0.0.1", self.server.plane.port, context=self.server.trust)
        far.connect()
        end = far.sock  # the response may take it over
        with self.server.deciding:
            busy = self.server.busy
            if not busy:
                self.server.under_way.add(end)
        try:
            if busy:
                self._refuse()
                return
            far.request(self.command, self.path, body or None, dict(self.headers.items()))
            self._pass_on(far.getresponse())
        finally:
            self.server.under_way.discard(end)
            far.close()

    def _refuse(self) -> None:
        data = json.dumps(_BUSY).encode()
        self.send_response(429)
        self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _pass_on(self, response: http.client.HTTPResponse) -> None:
        """As it comes: a watch has no end."""
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while data := response.read1(65536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the counts are looked at."""
