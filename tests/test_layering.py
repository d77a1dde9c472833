"""Imports go one way (docs: everything may use the shared modules; compress -> train; and so on)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = ("train", "compress", "export", "runtime", "gate", "calib_data")
ALLOWED = {
    "sr_deploy": (),
    "train": (),
    "compress": ("train",),
    "export": ("train", "compress", "runtime", "calib_data"),
    "runtime": (),
    "gate": ("runtime",),
    "calib_data": (),
}
INSIDE_FUNCTIONS = {
    "gate": ("train", "compress.thresholds"),  # opening a checkpoint; choosing a threshold, which is numpy only
    "sr_deploy": ("runtime.upscaler",),  # what "from sr_deploy import Upscaler" leads to
}
BANNED = {"runtime": ("torch", "onnx", "lightning", "nni"), "sr_deploy": ("torch", "onnx", "lightning", "nni")}


def imported(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[str, bool, int]]:
    """Yield (module, whether it is imported later or never, line) of every import; a relative one begins with dots."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "sr_deploy" else [module]
            yield from ((name, inside, node.lineno) for name in names)
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_for_type_checkers(node)
        yield from imported(node, inside=inside or later)


def is_for_type_checkers(node: ast.AST) -> bool:
    """Return whether a statement never runs; one with an ``else``, which does, is not taken for one."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


def violations(source: str, folder: str) -> list[str]:
    """Return what a module of ``folder`` imports against the rules."""
    found = []
    for module, inside, line in imported(ast.parse(source)):
        top, _, rest = module.partition(".")
        part = rest.partition(".")[0]
        allowed = (folder, *ALLOWED[folder], *(INSIDE_FUNCTIONS.get(folder, ()) if inside else ()))
        part = rest if rest in allowed else part
        if module.startswith("."):
            found.append(f"line {line}: relative import of {module}")
        elif top in FOLDERS:
            found.append(f"line {line}: {module} instead of sr_deploy.{module}")
        elif top in BANNED.get(folder, ()) or (top == "sr_deploy" and part in FOLDERS and part not in allowed):
            found.append(f"line {line}: {folder} imports {module}")
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(root: Path, folder: str) -> None:
    paths = sorted((root / folder).glob("*.py"))
    assert paths
    found = {str(path.relative_to(root)): violations(path.read_text("utf-8"), folder) for path in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_folder_has_its_rule(root: Path) -> None:
    folders = {path.parent.name for path in root.glob("*/*.py")} - {"tests", "benchmarks"}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("runtime", "import torch"),
        ("runtime", "def f():\n    from onnx import helper"),
        ("runtime", "import sr_deploy.train.loop"),
        ("runtime", "from sr_deploy import export"),
        ("runtime", "from sr_deploy.calib_data import folder"),
        ("gate", "from sr_deploy.train import checkpoint"),
        ("gate", "class A:\n    from sr_deploy.train import checkpoint"),
        ("gate", "def f():\n    from sr_deploy.compress import masks"),
        ("gate", "from sr_deploy.compress.thresholds import choose"),
        ("gate", "from sr_deploy.export.graph import halo"),
        ("train", "from sr_deploy.compress.masks import l1_mask"),
        ("train", "import sr_deploy.gate"),
        ("compress", "from sr_deploy.export import graph"),
        ("export", "from sr_deploy.gate import budgets"),
        ("sr_deploy", "if True:\n    from sr_deploy.train import loop"),
        ("sr_deploy", "from sr_deploy.runtime.upscaler import Upscaler"),
        ("sr_deploy", "if TYPE_CHECKING:\n    pass\nelse:\n    from sr_deploy.runtime.upscaler import Upscaler"),
        ("sr_deploy", "def f():\n    from sr_deploy.runtime.engine import load"),
        ("sr_deploy", "import torch.nn"),
        ("train", "from train.loop import train"),
        ("train", "import compress"),
        ("train", "from . import loop"),
        ("train", "from ..card import ModelCard"),
    ],
)
def test_a_wrong_import_is_found(folder: str, source: str) -> None:
    assert len(violations(source, folder)) == 1


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("gate", "def f():\n    from sr_deploy.compress.thresholds import choose"),
        ("gate", "def f():\n    import torch\n    from sr_deploy.train import checkpoint"),
        ("gate", "from sr_deploy.runtime.engine import load"),
        ("sr_deploy", "if TYPE_CHECKING:\n    from sr_deploy.runtime.upscaler import Upscaler"),
        ("export", "from sr_deploy.calib_data import folder\nfrom sr_deploy.runtime import tiling"),
        ("compress", "from sr_deploy.train.loop import train\nfrom sr_deploy.compress import masks"),
        ("runtime", "import onnxruntime\nfrom sr_deploy import __version__\nfrom sr_deploy.card import ModelCard"),
    ],
)
def test_a_right_import_is_not(folder: str, source: str) -> None:
    assert violations(source, folder) == []
