"""A server in this process that answers each question as a test says: what only a good model would write."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], tuple[str, str] | None]
"""The last turn of the conversation -> (text, finish_reason), or None: the server refuses it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "student", "owned_by": "test"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        found = self.server.answer(body["messages"][-1]["content"])
        if found is None:
            self._send(400, {"error": "not this one"})
            return
        text, reason = found
        usage = {"prompt_tokens": 9, "completion_tokens": len(text.split())}
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        self._send(200, {"choices": [choice], "usage": usage})

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(base URL, the bodies of the requests so far)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.answer, server.bodies = answer, []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", server.bodies  # type: ignore[attr-defined]
        server.shutdown()
