from __future__ import annotations

import pytest

from sr_deploy.errors import InputError
from sr_deploy.train.data.options import spans


def test_a_range_has_one_part_or_two() -> None:
    assert spans("1-800") == ((1, 800), None)
    assert spans("1-800/801-810") == ((1, 800), (801, 810))


@pytest.mark.parametrize("text", ["", "5", "0-3", "3-2", "1-2/4-3", "1-2/", "1-2/3-4/5-6", "a-b", "-1-3", "1-2,4-5"])
def test_a_range_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"^--range .*: not a range of positions from 1; 1-800, or 1-800/801-810"):
        spans(text)
