"""Servers that we start, running: started, waited for, started again when they end, stopped however the run ends.

    with serving(models, run_folder) as placed:      # models of the pool, those of our servers with url and revision
        with open_pool(placed, ...) as pool: ...

Each server has a guard beside it (guard.py) that ends it when this process is gone, whatever killed it. Ports are ours
for as long as the block lasts: a server that comes back is found where it was, so clients only have to be patient.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path

from gra_train import progress
from gra_train.chat import guard
from gra_train.chat.protocol import ModelError
from gra_train.chat.serve import Plan, identity, plan_servers, reserve_port
from gra_train.errors import UserError
from gra_train.schema import Model
from gra_train.settings import change

log = logging.getLogger(__name__)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know our ports
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


@contextmanager
def serving(models: Sequence[Model], folder: Path) -> Iterator[list[Model]]:
    """Start the servers that `models` (resolved, see serve.resolve) ask for; logs go to `folder`/servers/.

    Yields the models in their order, those of our servers with url, served_name and revision set. Raises UserError if
    they cannot be started (see plan_servers), do not answer in time, or end at their start: with the end of the log.
    """
    plans = plan_servers(models)
    if not plans:
        yield list(models)
        return
    (folder / "servers").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        servers = [Server(plan, folder / "servers" / f"{_file_name(plan.name)}.log") for plan in plans]
        for server in servers:
            stack.callback(server.close)
        for server in servers:
            stack.callback(server.let_go)  # all are told to end before any is waited for
            server.start()
        _wait_until_healthy(servers)
        at = {m.name: [s for s in servers if m.name in s.plan.names] for m in models if m.serve}
        keeper = _Keeper(servers)
        stack.callback(keeper.stop)
        try:
            yield [place(m, at[m.name]) if m.name in at else m for m in models]
        except ModelError as error:
            if lost := [s for s in servers if s.code is not None]:
                raise ModelError(f"{error} {' '.join(s.story() for s in lost)}") from None
            raise


class Server:
    """One server with its port and its guard."""

    def __init__(self, plan: Plan, log_file: Path) -> None:
        self.plan, self.log = plan, log_file
        self.files = log_file.with_name(_file_name(plan.models[0].name))
        self._reserved = reserve_port(plan.port, plan.name)
        self.port = int(self._reserved.getsockname()[1])
        self.guard: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.given_up = False

    def start(self) -> None:
        command = [sys.executable, guard.__file__, str(self.log), *self.plan.command(self.port, self.files)]
        self.guard = subprocess.Popen(command, stdin=subprocess.PIPE, env=self.plan.environment)
        self.starts += 1

    @property
    def code(self) -> int | None:
        """Exit code of a server that ended, else None."""
        return self.guard.poll() if self.guard else None

    def healthy(self) -> bool:
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, HTTPException):
            return False

    def story(self) -> str:
        """For a person: how the server ended, and its last words."""
        return f"Its server ended (exit code {self.code}, started {self.starts} times); see {self.log}:\n{self._tail()}"

    def _tail(self, lines: int = 12) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 4096))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def let_go(self) -> None:
        """Tell the guard to end the server."""
        if self.guard and self.guard.stdin:
            self.guard.stdin.close()

    def close(self) -> None:
        """End the server, wait until it is gone, free its port."""
        self.let_go()
        if self.guard:
            try:
                self.guard.wait(2 * guard.GRACE_S + 5)
            except subprocess.TimeoutExpired:
                self.guard.kill()
                self.guard.wait()
        self._reserved.close()


def place(model: Model, servers: Sequence[Server]) -> Model:
    """The model as its client meets it: behind these servers. Patience covers the time that one needs to come back."""
    plan = servers[0].plan
    return change(
        model,
        url=",".join(f"http://127.0.0.1:{server.port}/v1" for server in servers),
        served_name=plan.served_name(model, servers[0].files),
        revision=identity(model),
        give_up_s=max(model.give_up_s, plan.settings.start_timeout_s),
        serve={},
    )


def _wait_until_healthy(servers: Sequence[Server]) -> None:
    started = time.monotonic()
    waiting = list(servers)
    with progress.task("servers", total=len(servers), unit="servers") as bar:
        while waiting:
            for server in list(waiting):
                if server.code is not None:
                    raise UserError(f"the server of model {server.plan.name!r} did not start. {server.story()}")
                if server.healthy():
                    waiting.remove(server)
                    log.info("model %r is served on port %d", server.plan.name, server.port)
                elif time.monotonic() - started > (limit := server.plan.settings.start_timeout_s):
                    raise UserError(
                        f"the server of model {server.plan.name!r} did not answer within {limit:g} s "
                        f"(serve.start_timeout_s); see {server.log}:\n{server._tail()}"
                    )
            names = ", ".join(s.plan.name for s in waiting)
            bar.update(len(servers) - len(waiting), note=f"starting {names}" if names else "")
            time.sleep(0.25)


class _Keeper:
    """A thread that starts servers again which have ended: `restarts` times at most, after growing waits."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due: dict[int, float] = {}
        left = [server.plan.settings.restarts for server in self._servers]
        while not self._stop.wait(0.25):
            for i, server in enumerate(self._servers):
                if server.code is None or server.given_up:
                    continue
                if i in due:
                    if time.monotonic() >= due[i]:
                        del due[i]
                        self._start(server)
                elif not left[i]:
                    server.given_up = True
                    log.error("model %r: no more restarts. %s", server.plan.name, server.story())
                else:
                    left[i] -= 1
                    wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (server.starts - 1))
                    due[i] = time.monotonic() + wait
                    log.warning(
                        "model %r: starting its server again in %.0f s. %s", server.plan.name, wait, server.story()
                    )

    @staticmethod
    def _start(server: Server) -> None:
        """Start it again. Where even that fails (a full disk, no process to be had), it counts as a start that ended:
        the next look finds it ended still, and waits longer."""
        try:
            server.start()
        except (OSError, ValueError, UserError) as error:
            server.starts += 1
            log.error("model %r: its server could not be started: %s", server.plan.name, error)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
