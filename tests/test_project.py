"""The tree as a whole: house rules that a reader should be able to rely on."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "gra_train").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """The files of the repository (all that is there, outside of a checkout)."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("module", PACKAGE, ids=relative)
def test_module_opens_with_its_purpose_and_is_small(module):
    text = module.read_text()
    assert ast.get_docstring(ast.parse(text)), "the first statement says what the module is for"
    assert len(text.splitlines()) <= 350


def test_no_package_addresses_and_no_local_folders():
    address = re.compile(
        rb"(extra-)?index-url\s*=|find-links\s*=|https?://[^\s\"']+/(simple|packages)/|https?://[^\s\"']+\.whl|\bfile:///"
        rb"|(?<![\w.~-])/(home/\w|root/|work/|opt/py)"
    )
    me = Path(__file__)
    found = [
        f"{relative(file)}:{number}: {line.decode(errors='replace')[:120]}"
        for file in tracked()
        if file != me and file.suffix not in {".safetensors", ".png"}
        for number, line in enumerate(file.read_bytes().splitlines(), 1)
        if address.search(line)
    ]
    assert not found


def test_every_yaml_file_parses():
    files = [file for folder in ("conf", "experiments", "gra_train") for file in (ROOT / folder).rglob("*.yaml")]
    assert files
    for file in files:
        if not file.is_relative_to(ROOT / "gra_train/evaluation"):  # lm-eval's tasks have tags of their own
            assert yaml.safe_load(file.read_text()) is not None, f"{relative(file)} is empty"


def test_constraints_pin_every_dependency_and_nothing_else():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lines), (
        "name==version, no addresses, no local labels"
    )
    pinned = {canonical(line.split("==")[0]) for line in lines}
    wanted = PROJECT["dependencies"] + [need for needs in PROJECT["optional-dependencies"].values() for need in needs]
    names = {canonical(re.match(r"[\w.-]+", need)[0]) for need in wanted} - {"gra-train"}
    assert names <= pinned


def test_every_imported_distribution_is_declared():
    declared = PROJECT["dependencies"] + [
        need for extra, needs in PROJECT["optional-dependencies"].items() if extra != "dev" for need in needs
    ]
    names = {canonical(re.match(r"[\w.-]+", need)[0]) for need in declared}
    owners = metadata.packages_distributions()
    for module in PACKAGE:
        for name in top_level_imports(ast.parse(module.read_text())):
            sibling = (module.parent / f"{name}.py").is_file()  # of a script that runs without the package
            if name not in sys.stdlib_module_names and name != "gra_train" and not sibling:
                own = {canonical(owner) for owner in owners.get(name, [name])}
                assert own & names, f"{relative(module)} imports {name}, which pyproject.toml does not declare"


def top_level_imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_commands_in_the_documents_exist():
    """`make TARGET`, `gra-train COMMAND`, paths of scripts: what the documents tell a reader to type is there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", "--help"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    commands = set(re.findall(r"^  ([a-z-]+) ", shown.stdout, re.MULTILINE))
    assert {"run", "config", "doctor"} <= commands
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "experiments").rglob("*.md")):
        for code in code_in(document.read_text()):
            for target in re.findall(r"^\s*make ([a-z-]+)", code, re.MULTILINE):
                assert target in targets, f"{relative(document)}: make {target}"
            for command in re.findall(r"^\s*(?:\.venv/bin/)?gra-train ([a-z][a-z-]*)\b", code, re.MULTILINE):
                assert command in commands, f"{relative(document)}: gra-train {command}"
            for script in re.findall(r"\b((?:slurm|benchmarks)/[\w/.-]+\.(?:sbatch|sh|py))", code):
                assert (ROOT / script).is_file(), f"{relative(document)}: {script}"


def code_in(text: str) -> list[str]:
    """Fenced blocks and inline code of a markdown text."""
    fenced = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_shell_scripts_parse():
    scripts = [*(ROOT / "slurm").iterdir(), *(ROOT / ".ci").iterdir()]
    for script in scripts:
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-n", str(script)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_make_help_lists_the_targets():
    done = subprocess.run(["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for target in ("run", "test", "lint", "ci"):
        assert re.search(rf"^  make {target} +\w", done.stdout, re.MULTILINE)
