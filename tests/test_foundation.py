"""What a newcomer relies on: the two commands, the console script, documented modules, files that work anywhere."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("topology", "coordinator", "actors", "protos", "tools")
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if not path.name.endswith("_pb2.py")
)
ABSOLUTE_PATH = re.compile(r"""(?:^|[\s"'`=(:])(?:/(?:home|root|tmp|work|opt|Users|mnt)/\w|[A-Z]:\\\w)""")
REGISTRY_OPTION = re.compile(
    r"^\s*(?:-i\b|-f\b|--(?:extra-)?index-url|--find-links|--trusted-host)|https?://", re.MULTILINE
)


def tracked_files() -> list[Path]:
    """Files of the checkout that git tracks or would track."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: tracked files are unknown")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """Text of a file, empty if it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_readme_names_the_two_commands_and_make_has_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in ("run", "test"):
        assert re.search(rf"^make {target}\b", readme, re.MULTILINE)
        assert target in targets


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8")))


def test_console_script_is_installed_and_loads() -> None:
    (script,) = entry_points(group="console_scripts", name="gridaccord")
    assert callable(script.load())


def test_no_tracked_file_names_an_absolute_path() -> None:
    found = [str(path.relative_to(ROOT)) for path in tracked_files() if ABSOLUTE_PATH.search(text_of(path))]
    assert found == []


def test_lock_pins_every_dependency_with_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not REGISTRY_OPTION.search(lock)
    pins = {name.lower() for name in re.findall(r"^([\w.-]+)==.*\\\n    --hash=sha256:", lock, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["bench"],
        *project["optional-dependencies"]["test"],
    ]
    names = {re.split(r"[<>=\[ ;]", requirement)[0].lower() for requirement in wanted} - {"gridaccord"}
    assert names <= pins
