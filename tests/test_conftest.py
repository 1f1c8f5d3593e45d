"""GRA_REQUIRE: a skip becomes a failure where the marker is demanded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.fixture
def daemons():
    pytest.skip("no daemons here")

@pytest.mark.slurm
def test_needs_daemons(daemons):
    pass

@pytest.mark.slurm
def test_skips_itself():
    pytest.skip("not today")

def test_other():
    pytest.skip("something else")
"""


@pytest.mark.parametrize(
    ("required", "code", "counts"),
    [("", 0, "3 skipped"), ("compiler", 0, "3 skipped"), ("slurm,compiler", 1, "1 skipped")],
)
def test_a_demanded_marker_may_not_be_skipped(tmp_path, required, code, counts):
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slurm: x\n")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"GRA_REQUIRE": required}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert counts in done.stdout
    if code:
        assert "skipped although GRA_REQUIRE names slurm: Skipped: no daemons here" in done.stdout
