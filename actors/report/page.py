"""The page: one file with its style, its program and its figures in it, which reaches no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

from actors.report.figures import Json

_PARTS = ("style.css", "charts.js", "page.js")


def page(figures: Json, title: str, facts: Mapping[str, str]) -> str:
    """The HTML of a report. `facts` stand under the title."""
    here = files("actors.report")
    text = here.joinpath("page.html").read_text(encoding="utf-8")
    parts = {part: here.joinpath(part).read_text(encoding="utf-8") for part in _PARTS}
    document = figures | {"title": title, "facts": dict(facts)}
    for part, content in (*parts.items(), ("figures.json", _embedded(document))):
        text = text.replace("{{" + part + "}}", content)
    return text


def _embedded(document: Json) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
