"""A server with a fixed latency that speaks the OpenAI chat protocol, in a process of its own. Standard library only.

    python stub.py --answers answers.json [--port 0]     (prints {"port": ..., "loop": ...} and serves until killed)

Each request is answered exactly `latency` seconds after its body has arrived; of every `1 / stragglers` requests one is
answered `slow` times later. A raw asyncio protocol (on uvloop where that is installed) keeps the server's own share of
the machine small; GET /stats says what it was, so that a reader can see whether the server was the bottleneck.

answers.json: {"markers": [[text in the request, answer or {model: answer}], ...], "default": answer}. The first marker
that occurs wins. In an answer `%COUNT%` becomes the number of the request, ten digits, and `%WORDS%` made-up words that
go with that number, so that texts are not near-copies of each other.

GET  /v1/models                  the list of models
POST /v1/chat/completions        an answer
POST /control {"latency": s, "stragglers": share, "slow": factor}    set, and count from zero
GET  /stats                      what was counted (Stub.stats)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import signal
import time
from array import array
from typing import Any

_COUNT, _WORDS = b"%COUNT%", b"%WORDS%"
_rng = random.Random(0)
_PHRASES = [
    b" ".join(bytes(_rng.choice((b"bdfgklmnprstvz", b"aeiou")[i % 2]) for i in range(6)) for _ in range(8))
    for _ in range(1021)
]  # 55 letters each


def _reply(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Stub:
    """What all connections share: the answers, the settings and the counts since they were last set."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._markers = [
            (
                marker.encode(),
                {m.encode(): _chat(a) for m, a in answer.items()} if isinstance(answer, dict) else _chat(answer),
            )
            for marker, answer in answers["markers"]
        ]
        self._default = _chat(answers["default"])
        self.connections = 0
        self.set({})

    def set(self, values: dict[str, float]) -> None:
        self.latency = values.get("latency", 0.0)
        self.slow = self.latency * values.get("slow", 10.0)
        share = values.get("stragglers", 0.0)
        self._every = round(1 / share) if share else 0
        self.calls = self.stragglers = self.most = 0
        self.first = self.late = self.latest = 0.0
        self.answered = array("d")
        self.cpu = _cpu()

    def delay(self) -> float:
        """Seconds until the request that has just arrived is answered."""
        if not self.calls:
            self.first = time.perf_counter()
        self.calls += 1
        self.most = max(self.most, self.calls - len(self.answered))
        if self._every and self.calls % self._every == self._every // 2:
            self.stragglers += 1
            return self.slow
        return self.latency

    def answer(self, body: bytes) -> bytes:
        """The response to a chat request, ready to be written."""
        found = next((answer for marker, answer in self._markers if marker in body), self._default)
        if isinstance(found, dict):
            model = body.partition(b'"model":')[2].partition(b'"')[2].partition(b'"')[0]
            found = found.get(model) or next(iter(found.values()))
        if _COUNT not in found:
            return found
        words = _PHRASES[self.calls % 1021] + b" " + _PHRASES[self.calls // 1021 % 1021]
        return found.replace(_COUNT, b"%010d" % self.calls).replace(_WORDS, words)

    def written(self, due: float) -> None:
        now = time.perf_counter()
        self.answered.append(now)
        self.late += now - due
        self.latest = max(self.latest, now - due)

    def stats(self) -> dict[str, Any]:
        """first: when the first request came (CLOCK_MONOTONIC). window_s: from then to the last answer; middle_s:
        what the middle half of the answers took. late_ms: how much later than due the answers were written.
        """
        done = self.answered or [self.first]
        middle = done[len(done) * 3 // 4] - done[len(done) // 4]
        return {
            "calls": self.calls, "answered": len(self.answered), "stragglers": self.stragglers, "first": self.first,
            "window_s": done[-1] - self.first, "middle_s": middle, "most_in_flight": self.most,
            "cpu_s": _cpu() - self.cpu, "connections": self.connections,
            "late_ms": {"mean": 1e3 * self.late / len(done), "most": 1e3 * self.latest},
        }  # fmt: skip


def _chat(text: str) -> bytes:
    """A whole response, of the length that it has when the places are filled."""
    body = json.dumps({
        "id": "chatcmpl-stub", "object": "chat.completion", "created": 0, "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
    }).encode()  # fmt: skip
    length = len(body) + body.count(_COUNT) * (10 - len(_COUNT)) + body.count(_WORDS) * (111 - len(_WORDS))
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


class Connection(asyncio.Protocol):
    """One keep-alive connection; a request is read whole before it is looked at."""

    def __init__(self, stub: Stub, loop: asyncio.AbstractEventLoop) -> None:
        self._stub, self._loop = stub, loop
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._stub.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._stub.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            if b"100-continue" in head:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            stop = end + 4 + length
            if len(self._data) < stop:
                return
            body, self._data = self._data[end + 4 : stop], self._data[stop:]
            self._handle(head.split(b" ", 2), body)

    def _handle(self, line: list[bytes], body: bytes) -> None:
        stub, path = self._stub, line[1]
        if b'"messages": []' in body:  # curator asks once for the rate limits like this: no call
            self._transport.write(_reply(b'{"error": {"message": "no messages"}}', b"400 Bad Request"))
        elif path.endswith(b"/chat/completions"):
            delay = stub.delay()
            due = time.perf_counter() + delay
            self._loop.call_later(delay, self._write, stub.answer(body), due)
        elif path.endswith(b"/models"):
            rows = [{"id": f"stub-{i}", "object": "model", "created": 0, "owned_by": "stub"} for i in range(5)]
            self._transport.write(_reply(json.dumps({"object": "list", "data": rows}).encode()))
        elif path == b"/stats":
            self._transport.write(_reply(json.dumps(stub.stats()).encode()))
        elif path == b"/control":
            stub.set(json.loads(body or b"{}"))
            self._transport.write(_reply(b"{}"))
        else:
            self._transport.write(_reply(b'{"error": {"message": "no such path"}}', b"404 Not Found"))

    def _write(self, answer: bytes, due: float) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
        self._stub.written(due)


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    with open(arguments.answers, encoding="utf-8") as file:
        stub = Stub(json.load(file))
    server = await loop.create_server(lambda: Connection(stub, loop), "127.0.0.1", arguments.port, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "loop": type(loop).__module__.split(".")[0]}), flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--answers", required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    try:
        import uvloop

        run: Any = uvloop.run
    except ImportError:
        run = asyncio.run
    run(_serve(arguments))


if __name__ == "__main__":
    main()
