"""An installed wheel works without the checkout: it carries conf/, experiments/ and the files beside the modules."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The content of a wheel made from the tracked files."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked():
        source, target = ROOT / name, folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.readlink(source)) if source.is_symlink() else target.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("setuptools cannot be fetched here")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def gra_train(installed: Path, *words: str, cwd: Path) -> str:
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "gra_train.cli", *words]
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_composes_its_own_configuration(installed, tmp_path):
    where = [sys.executable, "-c", "import gra_train.compose as c; print(c.conf_dir())"]
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(where, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found) == installed / "gra_train" / "conf"
    assert "synthesis" in gra_train(installed, "config", "experiment=mini", "debug=tiny", cwd=tmp_path)


def test_every_file_that_is_no_module_is_carried(installed):
    here = {Path(name) for name in tracked() if name.startswith("gra_train/") and (ROOT / name).is_file()}
    carried = {file.relative_to(installed) for file in (installed / "gra_train").rglob("*") if file.is_file()}
    assert here <= carried
    assert {Path("gra_train") / file.relative_to(ROOT) for file in (ROOT / "conf").rglob("*.yaml")} <= carried
