"""The guard's decision as a file beside the int8 graph, so that an equal export need not measure again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from sr_deploy.errors import InputError
from sr_deploy.export.accuracy.guard import Choice, Decision, Step, Verified, within
from sr_deploy.files import digest_bytes, read_bytes, write_text

Value = TypeVar("Value")
VERIFIED = ("budgets", "figures")


@dataclass(frozen=True)
class Question:
    """What a decision answers; equal questions have equal answers."""

    graph: str  # digest of the fp32 graph
    thresholds: str  # digest
    pictures: str  # digest of the tiles that are measured on
    max_drop_db: float
    kept: tuple[str, ...]  # that were to stay out of int8 from the start
    given_back: tuple[str, ...]


def question_of(start: Choice, *, graph: str, thresholds: str, pictures: str, max_drop_db: float) -> Question:
    """Return the question that the guard answers from ``start``."""
    return Question(graph, thresholds, pictures, max_drop_db, tuple(sorted(start.kept)), tuple(sorted(start.given_back)))


def write_decision(path: Path, question: Question, decision: Decision) -> None:
    """Write both, whole or not at all, with a digest."""
    steps = [{**asdict(step), "drop_db": _with_text_keys(step.drop_db)} for step in decision.steps]
    answer = {"given_back": list(decision.choice.given_back), "drop_db": _with_text_keys(decision.drop_db), "steps": steps}
    if decision.verified is not None:
        answer |= {name: _with_text_keys(facts) for name, facts in vars(decision.verified).items()}
    content = {"question": asdict(question), "answer": answer}
    write_text(path, json.dumps({**content, "digest": _digest(content)}, indent=2) + "\n")


def read_decision(path: Path, question: Question) -> Decision:
    """Return the decision in a file.

    Raises:
        InputError: it is damaged, was changed after it was made, or answers another question.
    """
    try:
        values = json.loads(read_bytes(path, advice="export again with --max-drop"))
        stated, content = values["digest"], {"question": values["question"], "answer": values["answer"]}
        asked, answer = values["question"], values["answer"]
        steps = tuple(Step(**{**step, "drop_db": _with_scales(step["drop_db"])}) for step in answer["steps"])
        drops, given_back = _with_scales(answer["drop_db"]), tuple(str(name) for name in answer["given_back"])
        verified = Verified(*({int(s): f for s, f in answer[n].items()} for n in VERIFIED)) if VERIFIED[0] in answer else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise InputError(f"{path}: not a guard's decision ({err}); export again with --max-drop") from err
    if stated != _digest(content):
        raise InputError(f"{path}: changed after it was made; export again with --max-drop")
    for name, ours in asdict(question).items():
        if asked.get(name) != (list(ours) if isinstance(ours, tuple) else ours):
            raise InputError(f"{path}: was decided for another {name.replace('_', ' ')}")
    choice = Choice(frozenset(question.kept), given_back)
    return Decision(choice, drops, question.max_drop_db, steps, verified)


def stored_decision(paths: Sequence[Path], question: Question) -> tuple[Decision, Path] | None:
    """Return the first stored decision that answers ``question`` and its file; a damaged file is as good as none."""
    for path in paths:
        if path.exists():
            try:
                found = read_decision(path, question)
            except InputError:
                continue
            if within(found.drop_db, found.max_drop_db):
                return found, path
    return None


def _digest(content: object) -> str:
    return digest_bytes(json.dumps(content, sort_keys=True).encode())


def _with_text_keys(values: dict[int, Value]) -> dict[str, Value]:
    return {str(scale): value for scale, value in values.items()}


def _with_scales(drops: dict[str, float]) -> dict[int, float]:
    return {int(scale): float(drop) for scale, drop in drops.items()}
