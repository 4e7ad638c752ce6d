"""What import-linter cannot see: parts of packages, and private names of DeepSpeed."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipemlp"
FILES = sorted(PACKAGE.rglob("*.py"))
MAY_TALK = ("engine", "gradients", "profiling", "checkpoint", "training")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_few_rooms_talk_to_other_processes(path):
    if path.relative_to(PACKAGE).parts[0] not in MAY_TALK:
        assert not {name for name in imports_of(path) if name.startswith(("torch.distributed", "deepspeed"))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_of_others_are_touched_in_one_place(path):
    if "private" in path.parts:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    touched = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and ast.unparse(node.value).split(".")[-1] in ("engine", "deepspeed", "dist", "torch")
    }
    assert not touched


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_small(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert (tree.body[-1].end_lineno if tree.body else 0) <= 350
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
