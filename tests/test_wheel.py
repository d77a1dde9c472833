"""``.ci/check_wheel.py``, which ``make wheel`` ends with, finds what must not be published."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

INFO = "sr_deploy-0.1.0.dist-info/RECORD"


@pytest.fixture(scope="module")
def check(root: Path) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("check_wheel", root / ".ci" / "check_wheel.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel_of(path: Path, *names: str, size: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, bytes(size))
    return path


def sdist_of(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"sr_deploy-0.1.0/{name}"), io.BytesIO())
    return path


def test_a_wheel_of_sr_deploy_alone_passes(check: ModuleType, tmp_path: Path) -> None:
    assert check.faults_of_wheel(wheel_of(tmp_path / "a.whl", INFO, *check.NEEDED)) == []
    assert check.faults_of_sdist(sdist_of(tmp_path / "a.tar.gz", "pyproject.toml", "train/run.py")) == []


@pytest.mark.parametrize("strange", ["train/run.py", "tests/test_a.py", "other-1.0.dist-info/RECORD"])
def test_another_top_level_package_is_found(check: ModuleType, tmp_path: Path, strange: str) -> None:
    found = check.faults_of_wheel(wheel_of(tmp_path / "a.whl", INFO, strange, *check.NEEDED))
    assert found == [f"a.whl: {strange.partition('/')[0]}: not sr_deploy, and at the top level"]


def test_a_checkpoint_is_found(check: ModuleType, tmp_path: Path) -> None:
    name = "train/pretrained/vdsr.safetensors"
    assert check.faults_of_sdist(sdist_of(tmp_path / "a.tar.gz", name)) == [
        f"a.tar.gz: holds the checkpoint sr_deploy-0.1.0/{name}"
    ]
    wheel = wheel_of(tmp_path / "a.whl", INFO, "sr_deploy/a.pth", *check.NEEDED)
    assert check.faults_of_wheel(wheel) == ["a.whl: holds the checkpoint sr_deploy/a.pth"]


def test_missing_budgets_and_a_large_file_are_found(check: ModuleType, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path / "a.whl", INFO, *check.NEEDED[::2], size=2_000_000)
    size = wheel.stat().st_size
    assert check.faults_of_wheel(wheel) == [
        "a.whl: sr_deploy/gates.toml is missing",
        f"a.whl: {size} bytes, at most 5000000 are allowed",
    ]


def test_tests_in_an_sdist_are_found(check: ModuleType, tmp_path: Path) -> None:
    found = check.faults_of_sdist(sdist_of(tmp_path / "a.tar.gz", "tests/test_a.py"))
    assert found == ["a.tar.gz: sr_deploy-0.1.0/tests/test_a.py: tests are of no use without their pictures"]
