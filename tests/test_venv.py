""".ci/venv.sh: what it says where Python or its venv module is missing. (That it builds is shown by every `make`.)"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "venv.sh"


@pytest.fixture
def programs(tmp_path):
    """A folder for PATH that has a shell's tools and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "grep", "env"):
        found = next(Path(path, name) for path in os.environ["PATH"].split(":") if Path(path, name).exists())
        (folder / name).symlink_to(found)
    return folder


def build(programs, target):
    command = [str(programs / "bash"), str(SCRIPT), str(target)]
    return subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, check=False)


def test_without_python_it_names_what_to_install(programs, tmp_path):
    done = build(programs, tmp_path / "venv")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_none(programs, tmp_path):
    python = programs / "python3"
    python.write_text(f"#!{programs / 'bash'}\nexit 1\n")
    python.chmod(0o755)
    assert "none was found" in build(programs, tmp_path / "venv").stderr


def test_without_the_venv_module_it_names_the_package(programs, tmp_path):
    python = programs / "python3"
    python.write_text(
        f'#!{programs / "bash"}\ncase "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n'  # as Debian's
    )
    python.chmod(0o755)
    done = build(programs, tmp_path / "venv")
    assert done.returncode == 1
    assert f"python{sys.version_info.major}.{sys.version_info.minor}-venv" in done.stderr
