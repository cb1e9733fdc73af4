"""The walk through docs/operate.md, command by command, on other ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.ports import free_ports
from benchmarks.cluster import environment

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
COMMAND = "import sys; from actors.cli import app; sys.argv[0] = 'gridaccord'; app()"


def blocks(language: str) -> list[str]:
    """What the page says to write or run."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def script() -> str:
    """All commands of the page in order; `submit` keeps the digest that `prove DIGEST` needs."""
    lines = "".join(blocks("sh")).splitlines()
    found = ["set -eu"]
    for line in lines:
        command = re.sub(r"\s+#.*$", "", line)
        if command.startswith("gridaccord submit"):
            command = f"DIGEST=$({command} | cut -d' ' -f1)"
        found.append(command.replace(" DIGEST", ' "$DIGEST"'))
    return "\n".join(found)


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    contents = dict(zip(("consortium.yaml", "regions.yaml"), blocks("yaml"), strict=True))
    ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", "".join(contents.values()))))
    free = dict(zip(ports, free_ports(len(ports)), strict=True))
    for name, content in contents.items():
        moved = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{free[found[1]]}", content)
        (tmp_path / name).write_text(moved, encoding="utf-8")
    shim = tmp_path / "bin" / "gridaccord"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{COMMAND}" "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    variables = {**environment(), "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        ["sh", "-c", script()],
        cwd=tmp_path,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=(tmp_path / "out.txt").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        code = process.wait(240)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        # The nodes that the script has left running are in its group.
        os.killpg(process.pid, signal.SIGKILL)
    output = (tmp_path / "out.txt").read_text(encoding="utf-8")
    if code:
        pytest.fail(f"ended with {code}:\n{output[-3000:]}")
    assert output.count("proven from genesis") == 3
    assert "valid" in output
    assert output.count("balance       250000") == 2
    assert re.search(r"^\d+/\d+  commit$", output, re.MULTILINE)
