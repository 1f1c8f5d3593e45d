"""For all tests: nothing reaches the network, one thread per process, and what is not there is skipped with its reason.

GRA_REQUIRE (names of markers, comma-separated) turns a skip of a test with that marker into a failure: CI sets it for
what it installs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "offline",
    "OMP_NUM_THREADS": "1",
}
os.environ.pop("GRA_STOP_FILE", None)
REQUIRED = {name for name in os.environ.get("GRA_REQUIRE", "").split(",") if name}


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
