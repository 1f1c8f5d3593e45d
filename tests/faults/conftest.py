"""What the fault tests share: server processes, and syntheses as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).with_name("server.py")
WINDOW = 6
"""Calls in flight at each endpoint of each model."""
MODELS = 5
SEEDS = [
    {"instruction": f"Name {i} rivers of a country of your choice.", "response": f"Here are {i} of them."}
    for i in range(3, 11)
]
SMALL = [
    "synthesis.target=12", "synthesis.rounds=2", "synthesis.max_candidates=96", "synthesis.wave=16",
    "synthesis.block=16", "synthesis.prompts=tags", "synthesis.max_tokens=256", "synthesis.dedup.encoder=hashing",
    "tracking=off",
]  # fmt: skip


class Server:
    """A server process. `control` sets its faults and counts from zero."""

    def __init__(self, folder: Path, name: str = "server") -> None:
        self._file = folder / f"{name}.port"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        self._file.unlink(missing_ok=True)
        port = [str(self.port)] if self.port else []
        self._process = subprocess.Popen([sys.executable, SERVER, self._file, *port])
        deadline = time.monotonic() + 60
        while not self._file.exists():
            assert self._process.poll() is None, "the server died"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        self.port = int(self._file.read_text())

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def control(self, **settings: Any) -> None:
        body = json.dumps(settings).encode()
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/control", body)).read()

    def stats(self) -> dict[str, int]:
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats"))

    def log(self) -> bytes:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log").read()


class Client:
    """A synthesis by the command line, in a session of its own, with all that it starts."""

    def __init__(self, folder: Path, urls: str, *words: str, environment: dict[str, str] | None = None, **model: Any):
        self.runs = folder / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in SEEDS))
        settings = {"url": urls, "revision": "r1", "max_concurrency": WINDOW, "retries": 12, "timeout_s": 30} | model
        members = [{"name": f"m{i}", **settings} for i in range(MODELS)]
        (folder / "pool.yaml").write_text(json.dumps({"name": "five", "models": members}))
        self.words = ["synthesize", f"seeds={folder / 'seeds.jsonl'}", f"pool={folder / 'pool.yaml'}",
                      f"runs_dir={self.runs}", *SMALL, *words]  # fmt: skip
        self.environment = environment or {}
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gra_train.cli", *self.words], text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | self.environment,
        )  # fmt: skip
        return self.process

    def end(self, timeout: float = 120) -> tuple[int, str]:
        """(exit code, what it said)."""
        assert self.process is not None
        said, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, said

    def complete(self) -> str:
        self.start()
        code, said = self.end()
        assert code == 0, said
        return said

    def kill(self) -> None:
        """SIGKILL to it and to everything it started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def running(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None

    def results(self) -> dict[str, bytes]:
        """Every result file by name, records of effort aside."""
        return {
            f"{file.parent.parent.name.partition('-')[0]}/{file.name}": file.read_bytes()
            for file in sorted(self.runs.glob("*/result/**/*"))
            if file.is_file() and file.name != "usage.json"
        }

    def statuses(self) -> dict[str, str]:
        """state by stage."""
        return {
            file.parent.name.partition("-")[0]: json.loads(file.read_text())["state"]
            for file in self.runs.glob("*/status.json")
        }

    def recorded(self) -> int:
        """Answers in the ledger."""
        from gra_train.chat.ledger import Ledger

        with Ledger(self.runs / "ledger") as ledger:
            return len(ledger)


def wait_for(server: Server, calls: float, client: Client) -> None:
    """Until the server has received that many calls."""
    deadline = time.monotonic() + 120
    while server.stats()["received"] < calls:
        assert client.running(), f"it had ended before: {client.end()[1]}"
        assert time.monotonic() < deadline, "it does not come so far"
        time.sleep(0.01)


def lost_in_flight(server: Server, client: Client) -> int:
    """Different requests that were sent, but whose answers are in no ledger: those that may be sent again."""
    time.sleep(0.2)  # what is in flight arrives
    return server.stats()["requests"] - client.recorded()


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """{"results": files of an undisturbed run, "calls": what it asked for}. Run once."""
    folder = tmp_path_factory.mktemp("calm")
    server = Server(folder)
    try:
        client = Client(folder, server.url)
        client.complete()
        stats = server.stats()
        assert stats["received"] == stats["requests"], "it asked for something twice"
        return {"results": client.results(), "calls": stats["received"], "log": server.log()}
    finally:
        server.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """client(urls, *words, **model settings) -> Client; killed at the end if it still runs."""
    made: list[Client] = []

    def make(urls: str, *words: str, name: str = "client", **model: Any) -> Client:
        made.append(Client(tmp_path / name, urls, *words, **model))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.running():
            one.kill()
