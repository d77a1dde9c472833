"""The pages of the documentation: what they name exists, and their figures are those of the benchmarks."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
]
TOPS = ("sr_deploy", "train", "compress", "export", "runtime", "gate")
ROOMS = sorted(path.parent for top in TOPS for path in (ROOT / top).rglob("__init__.py") if not (ROOT / top).is_symlink())
WIDEST = 100
COMMANDS = (
    "train",
    "compress",
    "export",
    "export.plans",
    "gate",
    "gate.eval",
    "runtime.bench",
    "runtime.doctor",
    "runtime.infer",
)
OTHER_OPTIONS = {  # of other programs, and of the scripts of this repository
    "--check", "--data-parallel", "--no-deps", "--gpus", "--preload", "--minutes", "--strict", "--index-url",
}  # fmt: skip
TO_BE_WRITTEN = {
    "train/networks/toy.py",
    "runtime/backends/opencv_engine.py",
}  # by who adds a network or a backend: test_adding.py
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
FILE = re.compile(r"`((?:sr_deploy|train|compress|export|runtime|gate|calib_data|benchmarks|tests)/[\w/*.]+\.\w+)`")


@pytest.fixture
def readme_figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.readme_figures")


def prose(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what links can lead to in a page, as GitHub names it."""
    titles = re.findall(r"^#+ (.+)$", prose(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(text: str, page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(text)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if re.match(r"\w+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def options_of_commands() -> set[str]:
    helps = [
        subprocess.run([sys.executable, "-m", f"sr_deploy.{name}.command", "--help"], check=True, capture_output=True, text=True)
        for name in COMMANDS
    ]
    return {option for shown in helps for option in OPTION.findall(shown.stdout)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page.read_text("utf-8"), page)) == []


def test_a_broken_link_is_found() -> None:
    page = ROOT / "docs/gate.md"
    text = (
        "[a](infer.md) [b](nothing.md) [c](#budgets) [d](#nothing) [e](gate.md#nothing) [f](https://nothing)\n```\n[g](h)\n```\n"
    )
    assert list(broken_links(text, page)) == ["nothing.md", "#nothing", "gate.md#nothing"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(FILE.findall(page.read_text("utf-8"))) - TO_BE_WRITTEN
    assert [name for name in named if not list(ROOT.glob(name))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_fit_a_window(page: Path) -> None:
    lines = page.read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > WIDEST and not re.fullmatch(r"\[[^]]+\]: \S+", line)] == []


def missing_files(docstring: str, room: Path) -> list[str]:
    """Return the files that the docstring of a room names, and that are neither in the room nor in the repository."""
    named = re.findall(r"``([\w/]+\.py)``", docstring)
    return [name for name in named if not (room / name).is_file() and not (ROOT / name).is_file()]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_rooms_name_files_that_exist(room: Path) -> None:
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))
    assert docstring is not None and missing_files(docstring, room) == []


def test_a_file_that_a_room_lacks_is_found() -> None:
    text = "Begin with ``run.py``; ``nothing.py`` and ``sr_deploy/card.py`` help."
    assert missing_files(text, ROOT / "gate") == ["nothing.py"]


def test_options_that_are_named_exist() -> None:
    known = options_of_commands() | OTHER_OPTIONS
    named = {(page.name, option) for page in PAGES for option in OPTION.findall(page.read_text("utf-8"))}
    assert sorted((page, option) for page, option in named if option not in known) == []


@pytest.mark.parametrize("page", [page for page in PAGES if not page.name.startswith("add_")], ids=lambda page: page.name)
def test_examples_in_python_compile(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        compile(block, str(page), "exec")


def test_figures_are_those_of_the_benchmarks(readme_figures: ModuleType) -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        assert readme_figures.with_figures(text, page.name) == text, "run python -m benchmarks.readme_figures"


def test_a_stale_figure_is_found(readme_figures: ModuleType) -> None:
    text = (ROOT / "docs/infer_api.md").read_text("utf-8")
    digit = re.search(r"\| x2 \| \d+\.\d\d(\d)", text)
    assert digit is not None
    stale = text[: digit.start(1)] + str((int(digit[1]) + 1) % 10) + text[digit.end(1) :]
    assert readme_figures.with_figures(stale, "a page") == text


def test_unknown_figures_are_an_error(readme_figures: ModuleType) -> None:
    with pytest.raises(readme_figures.InputError, match="a page: no figures are called 'nothing'; choose of engines, "):
        readme_figures.with_figures("<!-- figures: nothing -->\n<!-- /figures -->", "a page")
