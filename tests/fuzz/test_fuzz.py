"""Changed pictures and random cuts: some on every run, always the same; ``tests/fuzz/run.py`` tries as long as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sr_deploy import pictures
from tests.fuzz.strategies import changed_pictures
from tests.fuzz.targets import BoxEngine, Cut, check_cut, cut_of, little_memory, load_bytes, seeds

FEW = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
FOUND = sorted((Path(__file__).parent / "found").glob("*.bin"))  # what fuzzing found once, each a few bytes


@settings(FEW, max_examples=300)
@given(data=changed_pictures())
def test_a_changed_picture_is_a_picture_or_refused(data: bytes) -> None:
    with little_memory():
        load_bytes(data)


@settings(FEW, max_examples=200)
@given(numbers=st.lists(st.integers(0, 2**16), min_size=7, max_size=7))
def test_bands_partition_the_result_of_the_whole_picture(numbers: list[int]) -> None:
    check_cut(cut_of(numbers))


@pytest.mark.parametrize("name", sorted(seeds()))
def test_each_seed_is_read_or_refused(name: str) -> None:
    with little_memory():
        load_bytes(seeds()[name])


def test_seeds_cover_the_formats_and_most_are_pictures() -> None:
    found = seeds()
    assert {name.split("-")[0] for name in found} == set(pictures.FORMATS)
    with little_memory():
        assert sum(load_bytes(data) for data in found.values()) > len(found) / 2


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_once_is_read_or_refused(path: Path) -> None:
    with little_memory():
        load_bytes(path.read_bytes())


@pytest.mark.parametrize("size", [(1, 1), (1, 150), (150, 1), (5, 5), (4, 5), (6, 5), (9, 9), (10, 9)])
def test_cuts_at_the_edges_of_a_tile(size: tuple[int, int]) -> None:
    for factor in (1, 2):
        check_cut(Cut(size, (5, 5), 2, factor))
        check_cut(Cut(size, (1, 1), 0, factor))


def test_a_tiler_that_errs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = BoxEngine.__init__

    def less_halo(self: BoxEngine, cut: Cut, tile: tuple[int, int]) -> None:
        real(self, cut, tile)
        self.card = self.card.with_changes(halo=1)

    monkeypatch.setattr(BoxEngine, "__init__", less_halo)
    with pytest.raises(AssertionError):
        check_cut(Cut((40, 40), (9, 9), 2))


def test_a_loader_that_errs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object, reading: object) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("tests.fuzz.targets.read_picture", broken)
    with little_memory(), pytest.raises(ZeroDivisionError, match="a bug"):
        load_bytes(seeds()["PNG-RGB"])
