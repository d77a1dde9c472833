from __future__ import annotations

import hashlib
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from sr_deploy.files import list_pictures

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SCRIPTS: dict[str, str] = PROJECT["project"]["scripts"]
HEAVY = ("numpy", "cv2", "torch", "onnx", "onnxruntime", "lightning", "nni", "PIL", "pyvips", "rich")


APIS = {
    "train": "TrainOptions",
    "compress": "PruneOptions",
    "export": "ExportOptions",
    "export.plans": "BuildOptions",
    "gate": "GateOptions",
    "gate.eval": "EvalOptions",
}
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def packages_in(root: Path) -> set[str]:
    """Return the packages that the folders with modules are, at any depth."""
    tops = {path.parent for path in root.glob("*/*.py") if not path.parent.name.startswith(".")}
    folders = {
        path.parent for top in tops if top.name not in ("tests", "benchmarks", "docs", "examples") for path in top.rglob("*.py")
    }
    names = {".".join(folder.relative_to(root).parts) for folder in folders}
    return {name if name == "sr_deploy" else f"sr_deploy.{name}" for name in names}


def folder_of(package: str) -> Path:
    """Return the folder of a package of the project."""
    return ROOT / Path(*package.removeprefix("sr_deploy.").split("."))


def test_packages_are_the_folders_with_modules() -> None:
    assert sorted(PACKAGES) == sorted(packages_in(ROOT))
    assert [package for package in PACKAGES if not (folder_of(package) / "__init__.py").is_file()] == []


def test_a_forgotten_package_is_found(tmp_path: Path) -> None:
    for name in ("sr_deploy/a.py", "train/a.py", "train/room/inner/a.py", "tests/train/a.py", ".venv/lib/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sr_deploy" / "train").symlink_to("../train")
    assert packages_in(tmp_path) == {"sr_deploy", "sr_deploy.train", "sr_deploy.train.room.inner"}


def test_package_dir_maps_every_folder_of_the_root() -> None:
    tops = [name for name in PACKAGES if name.count(".") <= 1]
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {name: name.rpartition(".")[2] for name in tops}


def test_links_lead_to_the_folders() -> None:
    names = [name.rpartition(".")[2] for name in PACKAGES if name.count(".") == 1]
    assert {name: str((ROOT / "sr_deploy" / name).readlink()) for name in names} == {name: f"../{name}" for name in names}


def test_package_data_exists() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    assert set(patterns) <= set(PACKAGES)
    for package in patterns:
        assert all(list(folder_of(package).glob(pattern)) for pattern in patterns[package])


@pytest.mark.parametrize("command", SCRIPTS)
def test_entry_point_imports(command: str) -> None:
    module, _, name = SCRIPTS[command].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("command", SCRIPTS)
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        f"import sys; from {SCRIPTS[command].partition(':')[0]} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as ended: code = ended.code\n"
        f"print('code', code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "code 0 []\n"
    assert done.stdout.startswith(f"usage: {command} ")


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, sr_deploy\n"
        f"print('Upscaler' in dir(sr_deploy), [name for name in {HEAVY} if name in sys.modules])\n"
        "from sr_deploy import Upscaler\n"
        "print(Upscaler.__module__, [name for name in ('torch', 'onnx', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\nsr_deploy.runtime.upscaler []\n"


@pytest.mark.parametrize("room", APIS)
def test_the_options_of_a_stage_import_nothing_heavy(room: str) -> None:
    script = (
        f"import sys\nfrom sr_deploy.{room} import {APIS[room]}\nimport sr_deploy.{room}\n"
        f"print({APIS[room]!r} in dir(sr_deploy.{room}), [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


@pytest.mark.parametrize("room", [*APIS, "runtime.bench"])
def test_every_name_of_a_stage_is_there(room: str) -> None:
    module = importlib.import_module(f"sr_deploy.{room}")
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


def digests(folder: Path) -> dict[str, str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in list_pictures(folder)}


def test_photograph_sets_are_disjoint() -> None:
    sets = [digests(ROOT / name) for name in ("calib_data/calibrate", "calib_data/select", "tests/pictures")]
    assert all(sets)
    assert len(set().union(*sets)) == sum(len(found) for found in sets)


def test_a_shared_photograph_would_be_noticed(tmp_path: Path, pictures: Path) -> None:
    first = list_pictures(pictures)[0]
    (tmp_path / f"renamed{first.suffix}").write_bytes(first.read_bytes())
    assert digests(tmp_path).keys() & digests(pictures).keys()


def test_every_photograph_is_listed_with_its_licence() -> None:
    text = (ROOT / "calib_data" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", text, re.MULTILINE)
    listed = {(ROOT / "calib_data" / name).resolve() for name, _, _ in rows}
    folders = [ROOT / name for name in ("calib_data/calibrate", "calib_data/select", "tests/pictures")]
    assert listed == {path.resolve() for folder in folders for path in folder.iterdir()}
    assert all(licence.startswith(("public domain", "CC")) for _, _, licence in rows)
