"""The walk through docs/operate.md, command by command, on other ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cluster import environment, free_ports

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
    (content,) = blocks("yaml")
    ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", content)))
    for old, new in zip(ports, free_ports(len(ports)), strict=True):
        content = content.replace(f":{old}", f":{new}")
    (tmp_path / "consortium.yaml").write_text(content, encoding="utf-8")
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
        code = process.wait(100)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        # The nodes that the script has left running are in its group.
        os.killpg(process.pid, signal.SIGKILL)
    output = (tmp_path / "out.txt").read_text(encoding="utf-8")
    if code:
        pytest.fail(f"ended with {code}:\n{output[-3000:]}")
    assert output.count("proven from genesis") == 2
    assert "valid" in output
    assert "balance       250000" in output
