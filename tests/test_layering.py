"""Imports go one way (docs: everything may use the shared modules; compress -> train; and so on)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FOLDERS = ("train", "compress", "export", "runtime", "gate", "calib_data")
PARENTS = ("sr_deploy", "sr_deploy.runtime")  # what is imported from these is taken for a module
ALLOWED = {
    "sr_deploy": (),
    "train": (),
    "compress": ("train", "calib_data"),
    "export": ("train", "compress", "runtime", "calib_data"),
    "runtime": (),
    "gate": ("runtime",),
    "calib_data": (),
}
INSIDE_FUNCTIONS = {
    "gate": ("train",),  # opening a checkpoint
    "sr_deploy": ("runtime.upscaler",),  # what "from sr_deploy import Upscaler" leads to
}
BANNED = {"runtime": ("torch", "onnx", "lightning", "nni"), "sr_deploy": ("torch", "onnx", "lightning", "nni")}
# Folders in which only a command.py knows argparse's namespace, and makes options of it.
FLOORS = {  # the rooms of runtime/ from the ground up, and what each stands on; upscaler.py stands on all of them
    "pictures": (),
    "backends": (),
    "upscaling": ("pictures", "backends"),
    "engines": ("backends", "upscaling"),
    "large": ("pictures", "backends", "upscaling"),
    "video": ("backends", "upscaling"),
    "bench": ("backends", "upscaling", "engines"),
    "doctor": ("pictures", "backends"),
    "infer": ("pictures", "backends", "upscaling", "engines", "large", "video"),
}


def imported(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[str, bool, int]]:
    """Yield (module, whether it is imported later or never, line) of every import; a relative one begins with dots."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names] if module in PARENTS else [module]
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


def climbs(source: str, room: str) -> list[str]:
    """Return what a module of a room of ``runtime`` imports, now or later, from where the room does not stand on."""
    found = []
    for module, _, line in imported(ast.parse(source)):
        parts = [*module.split("."), ""]
        if parts[:2] == ["sr_deploy", "runtime"] and parts[2] not in (room, *FLOORS[room]):
            found.append(f"line {line}: {room} imports {module}")
    return found


def found_below(folder: Path, check: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """Return what a check finds in the modules of a folder and of all folders in it, by file."""
    found = {str(path.relative_to(folder)): check(path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))}
    return {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(root: Path, folder: str) -> None:
    assert list((root / folder).glob("*.py"))
    assert found_below(root / folder, lambda source: violations(source, folder)) == {}


@pytest.mark.parametrize("room", FLOORS)
def test_rooms_stand_on_lower_floors(root: Path, room: str) -> None:
    assert found_below(root / "runtime" / room, lambda source: climbs(source, room)) == {}


def namespaces(source: str) -> list[str]:
    """Return the functions of a module that take the untyped bag of arguments."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return [f"line {f.lineno}: {f.name} takes argparse.Namespace" for f in functions if "Namespace" in ast.unparse(f.args)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_arguments_are_options_below_the_commands(root: Path, folder: str) -> None:
    found = found_below(root / folder, namespaces)
    assert {name: lines for name, lines in found.items() if not name.endswith("command.py")} == {}


@pytest.mark.parametrize(
    "source", ["def f(a: argparse.Namespace): ...", "class A:\n    def f(self, *, a: Namespace | None): ..."]
)
def test_a_bag_of_arguments_is_found(source: str) -> None:
    assert len(namespaces(source)) == 1


def test_every_room_has_its_floor(root: Path) -> None:
    rooms = {path.parent.name for path in (root / "runtime").glob("*/*.py")}
    assert rooms == set(FLOORS)
    names = list(FLOORS)
    assert all(names.index(lower) < names.index(room) for room in FLOORS for lower in FLOORS[room])


def test_every_folder_has_its_rule(root: Path) -> None:
    folders = {path.parent.name for path in root.glob("[!.]*/*.py")} - {"tests", "benchmarks", "docs", "examples"}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("runtime", "import torch"),
        ("runtime", "def f():\n    from onnx import helper"),
        ("runtime", "import sr_deploy.train.loop.loop"),
        ("runtime", "from sr_deploy import export"),
        ("runtime", "from sr_deploy.calib_data import folder"),
        ("gate", "from sr_deploy.train.weights import checkpoint"),
        ("gate", "class A:\n    from sr_deploy.train.weights import checkpoint"),
        ("gate", "def f():\n    from sr_deploy.compress.pruning import masks"),
        ("gate", "from sr_deploy.export.graphs.reading import halo"),
        ("train", "from sr_deploy.compress.pruning.masks import native_masks"),
        ("train", "import sr_deploy.gate"),
        ("compress", "from sr_deploy.export.graphs import reading as graph"),
        ("export", "from sr_deploy.gate import budgets"),
        ("sr_deploy", "if True:\n    from sr_deploy.train.loop import loop"),
        ("sr_deploy", "from sr_deploy.runtime.upscaler import Upscaler"),
        ("sr_deploy", "if TYPE_CHECKING:\n    pass\nelse:\n    from sr_deploy.runtime.upscaler import Upscaler"),
        ("sr_deploy", "def f():\n    from sr_deploy.runtime.backends.engine import load"),
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
        ("gate", "def f():\n    import torch\n    from sr_deploy.train.weights import checkpoint"),
        ("gate", "from sr_deploy.runtime.backends.engine import load"),
        ("sr_deploy", "if TYPE_CHECKING:\n    from sr_deploy.runtime.upscaler import Upscaler"),
        ("export", "from sr_deploy.calib_data import folder\nfrom sr_deploy.runtime.upscaling import tiling"),
        ("compress", "from sr_deploy.train.loop.loop import train\nfrom sr_deploy.compress.pruning import masks"),
        ("runtime", "import onnxruntime\nfrom sr_deploy import __version__\nfrom sr_deploy.card import ModelCard"),
    ],
)
def test_a_right_import_is_not(folder: str, source: str) -> None:
    assert violations(source, folder) == []


def test_a_wrong_import_is_found_in_a_folder_of_the_folder(tmp_path: Path) -> None:
    room = tmp_path / "runtime" / "video" / "inner"
    room.mkdir(parents=True)
    (room / "frames.py").write_text("import numpy\n")
    (room.parent / "source.py").write_text("import numpy\nimport torch\n")
    (room / "result.py").write_text("from sr_deploy.export import command\n")
    assert found_below(tmp_path / "runtime", lambda source: violations(source, "runtime")) == {
        "video/inner/result.py": ["line 1: runtime imports sr_deploy.export"],
        "video/source.py": ["line 2: runtime imports torch"],
    }


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("pictures", "from sr_deploy.runtime.backends.engine import Engine"),
        ("backends", "from sr_deploy.runtime import upscaler"),
        ("backends", "def f():\n    from sr_deploy.runtime.engines.shipped import Shipped"),
        ("upscaling", "import sr_deploy.runtime.large.rows"),
        ("large", "if TYPE_CHECKING:\n    from sr_deploy.runtime.video.enlarge import enlarge"),
        ("video", "from sr_deploy.runtime import pictures, upscaling"),
        ("doctor", "import sr_deploy.runtime"),
        ("infer", "from sr_deploy.runtime.doctor.run import Finding"),
    ],
)
def test_a_climb_is_found(room: str, source: str) -> None:
    assert len(climbs(source, room)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        (
            "pictures",
            "import numpy\nfrom sr_deploy.pictures import Reading\nfrom sr_deploy.runtime.pictures.samples import Pixels",
        ),
        ("infer", "from sr_deploy.runtime.video.enlarge import enlarge\nfrom sr_deploy.runtime import pictures"),
        ("bench", "from sr_deploy.runtime.engines.shipped import Shipped\nfrom sr_deploy.runtime.bench.run import explained"),
    ],
)
def test_a_step_down_is_not(room: str, source: str) -> None:
    assert climbs(source, room) == []
