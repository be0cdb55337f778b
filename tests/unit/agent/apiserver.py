"""A little HTTP server that answers as the API server does."""

from __future__ import annotations

import email.utils
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NODES = "/apis/storagepair.dev/v1alpha1/storagenodes"


class Server(ThreadingHTTPServer):
    """`answers`: path -> (status, body), or a function of the request's headers that says so; `headers`: more for each
    answer by path. `events`: what each watch sends, one list a watch."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.events, self.requests = {}, [], []
        self.ahead = 0.0
        self.headers = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, path, query, dict(self.headers), body))
        if "watch=true" in query and self.server.events:
            return self._stream(self.server.events.pop(0))
        answer = self.server.answers.get(path, (404, {"message": "not found"}))
        status, content = answer(self.headers) if callable(answer) else answer
        data = json.dumps(content).encode() if not isinstance(content, bytes) else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in self.server.headers.get(path, {}).items():
            self.send_header(name, value)
        self.end_headers()
        return self.wfile.write(data)

    do_PATCH = do_POST = do_GET

    def _stream(self, events):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(time.time() + self.server.ahead, usegmt=True)

    def log_message(self, *args):
        pass
