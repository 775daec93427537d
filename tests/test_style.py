"""Prose and density that no linter knows: first words of docstrings, size of expressions."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("forget", "pipelines", "benchmarks", "examples", "tests")
SOURCES = list(itertools.chain(*(sorted((ROOT / name).rglob("*.py")) for name in PACKAGES)))

FRAGMENT = re.compile(r"(Of|What|Whether|How|Where|The same)\b")
"""First words of a sentence that needs its neighbour."""

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that stands alone: docstrings of all kinds."""
    for node in ast.walk(tree):
        found = node.value if isinstance(node, ast.Expr) else None
        if isinstance(found, ast.Constant) and isinstance(found.value, str):
            yield found.lineno, found.value.strip()


def crowded(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and reason of expressions that hold too much."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            if len(node.generators) > 1:
                yield node.lineno, "two `for` in a comprehension"
            if any(isinstance(one, COMPREHENSIONS) for one in ast.walk(node) if one is not node):
                yield node.lineno, "a comprehension in a comprehension"
        if isinstance(node, ast.IfExp) and isinstance(node.orelse, ast.IfExp):
            yield node.lineno, "a chain of conditional expressions"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_without_its_neighbours(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        f"{line}: begins with {text[:40]!r}"
        for line, text in docstrings(tree)
        if FRAGMENT.match(text)
    ]
    found += [f"{line}: {reason}" for line, reason in crowded(tree)]
    assert not found, "\n".join(found)
