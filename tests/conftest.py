"""For all tests: nothing reaches the network, one thread per process, and what is not there is skipped with its reason.

GRA_REQUIRE (names of markers, comma-separated) turns a skip of a test with that marker into a failure: CI sets it for
what it installs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from gra_train.schema import Serve

ROOT = Path(__file__).parents[1]
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "offline",
    "OMP_NUM_THREADS": "1",
}
os.environ.pop("GRA_STOP_FILE", None)
REQUIRED = {name for name in os.environ.get("GRA_REQUIRE", "").split(",") if name}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from gra_train.doctor import missing_for_ops

    reasons = {
        "gpu": "" if shutil.which("nvidia-smi") else "no GPU (nvidia-smi not found)",
        "compiler": "; ".join(missing_for_ops()),
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.xdist_group("slurm"))  # one cluster for all
    items.sort(key=_limit, reverse=True)


def _limit(item: pytest.Item) -> float:
    """Seconds of a limit of its own, where a test has one: the longest go first, so that no core idles at the end."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    demanded = [name for name in REQUIRED if item.get_closest_marker(name)]
    if report.skipped and demanded and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although GRA_REQUIRE names {demanded[0]}: {reason}"
    return report


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public data sets that GRA_DATA_DIR names; without it, the test is skipped."""
    named = os.environ.get("GRA_DATA_DIR")
    if not named:
        pytest.skip("GRA_DATA_DIR is not set: no real data sets here")
    assert Path(named).is_dir(), f"GRA_DATA_DIR={named} is no folder"
    return Path(named)


@pytest.fixture(scope="session")
def vllm_serve() -> Serve:
    """How the miniature's models are served by vLLM's CPU build, which has an environment of its own."""
    from gra_train.schema import Serve

    python = Path(os.environ.get("GRA_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"{python.name} of a vLLM environment not found: make venv-vllm, or name it in GRA_VLLM_PYTHON")
    settings = yaml.safe_load((ROOT / "conf" / "pool" / "mini_served.yaml").read_text())["serve"]
    return Serve(**settings | {"python": str(python), "start_timeout_s": 900.0})


@pytest.fixture(scope="session")
def transformers_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """serve(model folder) -> base URL of a real `transformers serve` process, started at its first use.

    The served name is the folder's path (this server wants it so).
    """
    for needed in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"transformers serve needs {needed} (the serving extra)")
    processes: list[subprocess.Popen[bytes]] = []
    urls: dict[Path, str] = {}

    def serve(folder: Path) -> str:
        if folder in urls:
            return urls[folder]
        home = tmp_path_factory.mktemp("hub")
        (home / "hub").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--device", "cpu"]
        command += ["--continuous-batching", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--cb-max-memory-percent", "0.05"]  # the default takes most of the machine for its cache
        with (home / "log.txt").open("wb") as log:
            environment = {**os.environ, "HF_HOME": str(home)}
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                said = (home / "log.txt").read_text()[-2000:]
                assert processes[-1].poll() is None, f"transformers serve ended: {said}"
                assert time.monotonic() < deadline, f"transformers serve did not start: {said}"
                time.sleep(0.3)
        urls[folder] = f"http://127.0.0.1:{port}/v1"
        return urls[folder]

    yield serve
    for process in processes:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
