"""Text files of "commands / ---- / output" blocks: read, run, compared, rewritten with `pytest --rewrite`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """Commands and what they print."""

    commands: str
    output: str


@dataclass(frozen=True)
class Case:
    """Blocks that run one after another on one state."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def rules(self) -> list[str]:
        """Ids of the rules and pitfalls that the title names."""
        return re.findall(r"\b[RP]\d+\b", self.title)


def parse(text: str) -> list[Case]:
    """Cases begin with `# title`, blocks are separated by blank lines."""
    cases: list[Case] = []
    for part in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        blocks = []
        for chunk in re.split(r"\n\s*\n|(?<=----)\n(?=----)", body.strip("\n")):
            for commands, output in split_blocks(chunk):
                blocks.append(Block(commands, output))
        cases.append(Case(title.strip(), tuple(blocks)))
    return cases


def split_blocks(chunk: str) -> list[tuple[str, str]]:
    """A chunk is commands, a line of dashes and output."""
    commands, separator, output = chunk.partition("----")
    assert separator, f"no line of dashes in:\n{chunk}"
    return [(commands.strip("\n"), output.strip("\n"))]


def render(cases: list[Case]) -> str:
    """The text of cases."""
    parts = []
    for case in cases:
        blocks = [f"{block.commands}\n----\n{block.output}".rstrip() for block in case.blocks]
        parts.append(f"# {case.title}\n" + "\n\n".join(blocks))
    return "\n\n\n".join(parts) + "\n"


def run_case(case: Case, run: Callable[[str], str]) -> Case:
    """The case with the output that it has now."""
    return Case(case.title, tuple(Block(block.commands, run(block.commands)) for block in case.blocks))


def rewrite(path: Path, make: Callable[[], Callable[[str], str]]) -> None:
    """Write the outputs that a file's cases have now."""
    cases = [run_case(case, make()) for case in parse(path.read_text(encoding="utf-8"))]
    path.write_text(render(cases), encoding="utf-8")
