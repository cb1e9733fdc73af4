"""Generate the protobuf modules beside their .proto sources, or check that those checked in are up to date.

python tools/generate_protos.py                # write them
python tools/generate_protos.py --output DIR   # write them below DIR instead
python tools/generate_protos.py --check        # print the difference and exit 1 if there is one
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("*_pb2.py", "*_pb2.pyi")


def generate(output: Path) -> None:
    """Write the modules of every .proto of the project below `output`, at the path they have below the root."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    if not sources:
        sys.exit("protos: no .proto file found; run this inside a checkout of GridAccord")
    output.mkdir(parents=True, exist_ok=True)
    outputs = [f"--python_out={output}", f"--pyi_out={output}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *outputs, *sources], cwd=ROOT, check=True)


def generated_files(root: Path) -> dict[str, str]:
    """Text of each generated module below `root`/protos, by its path."""
    paths = [path for pattern in GENERATED for path in (root / "protos").rglob(pattern)]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}


def difference(checked_in: dict[str, str], fresh: dict[str, str]) -> list[str]:
    """Lines of a unified diff from the checked-in modules to the freshly generated ones; empty if they agree."""
    lines: list[str] = []
    for name in sorted(checked_in.keys() | fresh.keys()):
        old, new = (files.get(name, "").splitlines(keepends=True) for files in (checked_in, fresh))
        lines += difflib.unified_diff(old, new, f"checked in: {name}", f"generated: {name}")
    return lines


def main() -> None:
    """Generate or check, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--output", type=Path, default=ROOT, metavar="DIR", help="write below DIR (default: the checkout)"
    )
    mode.add_argument("--check", action="store_true", help="compare with what is checked in; write nothing")
    arguments = parser.parse_args()
    if not arguments.check:
        generate(arguments.output.resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        changed = difference(generated_files(ROOT), generated_files(Path(folder)))
    sys.stdout.writelines(changed)
    if changed:
        sys.exit(
            "protos: the checked-in modules are not what protoc generates; run `make protos` and commit the result"
        )


if __name__ == "__main__":
    main()
