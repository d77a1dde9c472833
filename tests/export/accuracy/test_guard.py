"""The accuracy guard's search, on networks whose drop is a known function of what is in int8."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from sr_deploy.errors import InputError
from sr_deploy.export.accuracy.decision_file import Question, question_of, read_decision, stored_decision, write_decision
from sr_deploy.export.accuracy.guard import Choice, Drops, Search, Step, int8_share, worst

MACS = {"a": 1, "b": 10, "c": 10, "d": 10, "e": 1}
COSTS = {"a": 0.3, "b": 0.1, "c": 0.02, "d": 0.001, "e": 0.001}
START = Choice(frozenset({"e"}))


def additive(choice: Choice, costs: Mapping[str, float] = COSTS) -> Drops:
    """Return the drop when each convolution in int8 costs its own, half of it at the second scale."""
    drop = sum(cost for name, cost in costs.items() if name not in choice.floating)
    return {2: drop, 3: drop / 2}


def search(max_drop_db: float, measure: Callable[[Choice], Drops] = additive) -> Search:
    alone = {name: {2: COSTS[name], 3: COSTS[name] / 2, 4: COSTS[name]} for name in "abcd"}
    return Search(measure, lambda: alone, MACS, max_drop_db)


def test_what_fits_stays_as_it_was_asked_for() -> None:
    def never() -> dict[str, Drops]:
        raise AssertionError("nothing had to be measured alone")

    found = Search(additive, never, MACS, 1.0).run(START)
    assert found.fits and found.choice == START
    assert [step.action for step in found.steps] == ["start"]


def test_the_layer_with_the_most_db_per_mac_is_given_back_first() -> None:
    found = search(0.13).run(START)
    assert found.choice.given_back == ("a",)
    assert found.drop_db == pytest.approx({2: 0.121, 3: 0.0605})


def test_as_few_as_needed_are_given_back() -> None:
    found = search(0.022).run(START)
    assert found.choice.given_back == ("a", "b") and found.fits
    assert int8_share(found.choice, MACS) == pytest.approx(20 / 32)


def test_every_scale_must_fit() -> None:
    def at_the_second(choice: Choice) -> Drops:
        return {2: 0.0, 4: additive(choice)[2]}

    assert search(0.13, at_the_second).run(START).choice.given_back == ("a",)


def test_what_matters_at_the_scale_that_is_over_goes_first() -> None:
    costs = {"b": {2: 0.2, 4: 0.01}, "c": {2: 0.0, 4: 0.1}}

    def measure(choice: Choice) -> Drops:
        return {2: 0.0, 4: sum(cost[4] for name, cost in costs.items() if name not in choice.floating)}

    found = Search(measure, lambda: costs, MACS, 0.02).run(START)
    assert found.choice.given_back == ("c",)


def test_a_layer_that_became_affordable_is_taken_back() -> None:
    def measure(choice: Choice) -> Drops:
        # Without b in int8, a costs nothing.
        return {2: 0.0 if "b" in choice.floating else additive(choice)[2]}

    found = search(0.05, measure).run(START)
    assert [step.action for step in found.steps] == ["start", "give back", "give back", "take back"]
    assert found.choice.given_back == ("b",)


def test_a_layer_that_is_still_too_dear_stays_out() -> None:
    found = search(0.022).run(START)
    tried = [step for step in found.steps if step.action == "take back"]
    assert [step.layer for step in tried] == ["a"] and worst(tried[0].drop_db) > 0.022


def test_where_nothing_fits_the_best_is_told() -> None:
    def measure(choice: Choice) -> Drops:
        return {2: 0.5 + 0.01 * len(choice.given_back) if len(choice.given_back) != 2 else 0.4}

    found = search(0.1, measure).run(START)
    assert not found.fits
    assert found.drop_db == {2: 0.4} and len(found.choice.given_back) == 2


def test_a_drop_that_is_no_number_does_not_fit() -> None:
    found = search(0.1, lambda choice: {2: math.nan}).run(START)
    assert not found.fits


def test_every_measurement_is_reported() -> None:
    told: list[Step] = []
    one = search(0.022)
    one.report = told.append
    found = one.run(START)
    assert tuple(told) == found.steps and len(told) > 1


def question(**changes: object) -> Question:
    facts = {"graph": "g", "thresholds": "t", "pictures": "p", "max_drop_db": 0.13}
    return question_of(START, **{**facts, **changes})  # type: ignore[arg-type]


def test_a_decision_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = search(0.13).run(START)
    write_decision(tmp_path / "d.json", question(), made)
    assert read_decision(tmp_path / "d.json", question()) == made


@pytest.mark.parametrize("name", ["graph", "thresholds", "pictures", "max_drop_db"])
def test_a_decision_about_something_else_is_not_used(tmp_path: Path, name: str) -> None:
    write_decision(tmp_path / "d.json", question(), search(0.13).run(START))
    other = question(**{name: 0.2 if name == "max_drop_db" else "other"})
    with pytest.raises(InputError, match=rf"d\.json: was decided for another {name.replace('_', ' ')}"):
        read_decision(tmp_path / "d.json", other)
    assert stored_decision([tmp_path / "none.json", tmp_path / "d.json"], other) is None


def test_an_edited_decision_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_decision(path, question(), search(0.13).run(START))
    values = json.loads(path.read_text())
    values["answer"]["given_back"] = []
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"d\.json: changed after it was made"):
        read_decision(path, question())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest":1,"question":{},"answer":{}}'])
def test_a_damaged_decision_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(InputError, match=r"d\.json: not a guard's decision"):
        read_decision(tmp_path / "d.json", question())
    assert stored_decision([tmp_path / "d.json"], question()) is None
