"""CPU seconds and peak memory of a process and all that it started, by thread, as /proc of Linux tells them.

Nothing runs inside the processes that are measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

_PROC = Path("/proc")
IS_HERE = (_PROC / "self" / "task").is_dir()
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM = 1, 11, 12
"""Places in /proc/PID/stat after the process's name: its parent, and its times in ticks."""


class Role(StrEnum):
    """What a process is in a run."""

    VALIDATORS = "validators"
    GATEWAY = "gateway"
    FLEET = "fleet"
    RUNNER = "runner"
    RAY = "ray"
    """Everything of Ray that is none of the actors."""


_ACTORS = (
    (("ray::ValidatorHost", "ray::validators-"), Role.VALIDATORS),
    (("ray::RegionActor",), Role.GATEWAY),
    (("ray::DeviceFleet",), Role.FLEET),
)
"""How Ray titles the processes of actors: by their class, in a call by their name where they have one."""


@dataclass(frozen=True, slots=True)
class Thread:
    """Of a process with a role; `name` is the system's, and may change."""

    process: int
    thread: int
    role: Role = field(compare=False)
    name: str = field(compare=False)


Clocks = dict[Thread, float]
"""CPU seconds since each thread began."""


def clocks(root: int) -> Clocks:
    """Of all threads of a process, and of the processes that it started. Raises RuntimeError where /proc has none."""
    if not IS_HERE:
        raise RuntimeError("CPU seconds by thread come from /proc, which this system has not; measure on Linux")
    found: Clocks = {}
    for process, role in processes(root).items():
        for task in _listed(_PROC / str(process) / "task"):
            with suppress(OSError):
                name, fields = _stat(task)
                seconds = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_S
                found[Thread(process, int(task.name), role, name)] = seconds
    return found


def grown(before: Clocks, after: Clocks) -> Clocks:
    """Between two moments; a thread that has ended since counts for nothing."""
    return {thread: seconds - before.get(thread, 0.0) for thread, seconds in after.items()}


def processes(root: int) -> dict[int, Role]:
    """A process and all below it, with their roles."""
    children: dict[int, list[int]] = {}
    for process in _listed(_PROC):
        if process.name.isdecimal():
            with suppress(OSError):
                children.setdefault(int(_stat(process)[1][_PARENT]), []).append(int(process.name))
    found, waiting = {root: Role.RUNNER}, [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = role_of(_title(child))
            waiting.append(child)
    return found


def peak_mb(process: int) -> float:
    """The resident set at its largest; 0 for a process that is gone."""
    with suppress(OSError):
        for line in (_PROC / str(process) / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def role_of(title: str) -> Role:
    """What a process below the runner is, by its title."""
    return next((role for heads, role in _ACTORS if title.startswith(heads)), Role.RAY)


def _title(process: int) -> str:
    with suppress(OSError):
        return (_PROC / str(process) / "cmdline").read_bytes().decode(errors="replace")
    return ""


def _stat(folder: Path) -> tuple[str, list[str]]:
    """Name, which may hold anything, and the fields after it."""
    head, _, tail = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    return head.partition("(")[2], tail.split()


def _listed(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from list(folder.iterdir())
