"""How much memory there is, and how sizes are written."""

from __future__ import annotations

import argparse

import pytest

from sr_deploy.runtime.large.memory import byte_count, in_words

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2G", 2 * GIB),
        ("800m", 800 * 2**20),
        ("1.5GiB", 3 * GIB // 2),
        ("4 GB", 4 * GIB),
        ("1073741824", GIB),
        ("1T", 1024 * GIB),
    ],
)
def test_amounts_of_memory_are_understood(text: str, expected: int) -> None:
    assert byte_count(text) == expected


@pytest.mark.parametrize(
    ("text", "why"), [("much", "no amount"), ("-2G", "no amount"), ("2X", "no amount"), ("3M", "less than 64M")]
)
def test_other_amounts_are_refused(text: str, why: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=why):
        byte_count(text)


def test_amounts_are_told_in_the_unit_that_fits() -> None:
    assert (in_words(1.5 * GIB), in_words(300 * 2**20)) == ("1.5 GB", "300 MB")
