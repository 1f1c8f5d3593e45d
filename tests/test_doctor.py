"""gra-train doctor: true findings on this machine, and the advice for what is missing."""

import subprocess
import sys
import time

from gra_train import doctor


def test_report_is_fast_and_finds_this_machine_fit():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", "from gra_train.doctor import doctor; raise SystemExit(doctor())"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - start < 10, "under 2 s on an idle machine"
    assert "gra-train run experiment=mini" in done.stdout
    assert "BAD" not in done.stdout


def test_imports_nothing_heavy():
    code = (
        "import sys, gra_train.doctor as d; list(d.findings()); print({'torch', 'pandas', 'wandb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_unwritable_runs_folder_is_a_problem(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert doctor.doctor(str(tmp_path / "file" / "runs")) == 1
    shown = capsys.readouterr().out
    assert "BAD" in shown
    assert "runs_dir=FOLDER" in shown


def test_missing_package_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED", ["torch", "no-such-distribution"])
    found = [f for f in doctor.findings() if f.state == "problem"]
    assert [f.topic for f in found] == ["packages"]
    assert "no-such-distribution" in found[0].text


def test_another_version_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "_pins", lambda: {"rich": "0.0.1"})
    found = [f for f in doctor.findings() if f.topic == "versions"]
    assert found[0].state == "note"
    assert "tested: 0.0.1" in found[0].text


def test_missing_compiler_names_its_package(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor.missing_for_ops() == ["no C++ compiler (Debian: g++)"]
    found = next(f for f in doctor.findings() if f.topic == "compiler")
    assert found.state == "note"


def test_the_login_key_is_never_shown(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    doctor.doctor()
    shown = capsys.readouterr().out
    assert "logged in" in shown
    assert "0123456789" not in shown


def test_data_folder_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("GRA_DATA_DIR", str(tmp_path / "nowhere"))
    found = next(f for f in doctor.findings() if f.topic == "GRA_DATA_DIR")
    assert (found.state, "unset it" in found.advice) == ("note", True)
