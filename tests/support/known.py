"""Failures that are known and reported: marked strictly, so that a mend shows by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest


def known(reason: str) -> pytest.MarkDecorator:
    """The test fails for this reason; when it passes, the mark must go."""
    return pytest.mark.xfail(strict=True, reason=reason)


def cases(names: Iterable[str], reasons: Mapping[str, str]) -> list[object]:
    """Parameters of a test, marked where there is a known reason to fail."""
    return [pytest.param(name, marks=known(reasons[name])) if name in reasons else name for name in names]
