"""Options that are made in Python are checked as those of the command line are: by their types too."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from sr_deploy.compress.options import PruneOptions
from sr_deploy.errors import InputError
from sr_deploy.export.options import ExportOptions
from sr_deploy.export.plans.options import BuildOptions
from sr_deploy.gate.eval.options import EvalOptions
from sr_deploy.gate.options import GateOptions
from sr_deploy.options import check_type
from sr_deploy.runtime.bench.run import BenchOptions
from sr_deploy.runtime.infer.options import InferOptions
from sr_deploy.train.options import PrepareOptions, TrainOptions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

HERE = Path("here")
COMPLETE: list[DataclassInstance] = [
    BenchOptions(engines=(HERE,)),
    BuildOptions(),
    EvalOptions(data=(HERE,)),
    ExportOptions(output=HERE),
    GateOptions(reference=HERE, data=HERE),
    InferOptions(pictures=("a",), engine=HERE),
    PrepareOptions(data=(HERE,), output=HERE),
    PruneOptions(output=HERE),
    TrainOptions(data=(HERE,), output=HERE),
]


@pytest.mark.parametrize("options", COMPLETE, ids=lambda options: type(options).__name__)
def test_a_value_of_another_type_is_told_by_its_name(options: DataclassInstance) -> None:
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    others: tuple[object, ...] = (b"x", {}, 1j, ("a", 1, None), float)
    for name in given:
        for wrong in others:
            with pytest.raises(InputError, match=f"{name.replace('_', '[_-]')}[= ].*: (is of type .*; give|not )"):
                type(options)(**{**given, name: wrong})


@pytest.mark.parametrize("options", COMPLETE, ids=lambda options: type(options).__name__)
def test_a_number_out_of_its_range_is_told_by_its_name(options: DataclassInstance) -> None:
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    kinds = {field.name: str(field.type) for field in fields(options)}
    for name in given:
        wrong: list[object] = [-1] if kinds[name].startswith(("int", "float")) else []
        wrong += [math.nan, math.inf] if kinds[name].startswith("float") else []
        for value in wrong:
            if name == "crf":  # the encoder says which it takes
                continue
            with pytest.raises(InputError, match=f"^(--)?{name.replace('_', '[_-]')}[= ]{value}"):
                type(options)(**{**given, name: value})


@pytest.mark.parametrize(("sparsity", "share"), [(1.0, 1.0), (-0.1, 0.0), (math.nan, math.nan)])
def test_what_is_removed_is_a_share(sparsity: float, share: float) -> None:
    with pytest.raises(InputError, match=rf"--sparsity {sparsity} is not in \[0, 1\); 0.5 halves every convolution"):
        PruneOptions(output=HERE, sparsity=sparsity)
    with pytest.raises(InputError, match=f"--target-macs {share} is not between 0 and 1; 0.25 keeps a quarter"):
        PruneOptions(output=HERE, target_macs=share)


def test_what_fits_a_type() -> None:
    fit: list[tuple[object, object]] = [
        (2, int),
        (2, float),
        (2.0, float),
        ((1, 2), tuple[int, ...]),
        ([1, 2], tuple[int, int]),
        (None, int | None),
    ]
    fit += [("a", Literal["a", "b"]), (HERE, Path), ((), tuple[Path, ...]), (True, bool), (object(), object)]
    for value, hint in fit:
        check_type("option", value, hint, "another")
    unfit: list[tuple[object, object]] = [
        (True, int),
        (2.0, int),
        ("2", int),
        ("ab", tuple[str, ...]),
        ((1, 2, 3), tuple[int, int]),
        ("here", Path),
        (1, bool),
    ]
    for value, hint in [*unfit, (None, int), (None, Literal["a"]), ((1, "a"), tuple[int, ...]), ("x" * 999, int)]:
        with pytest.raises(InputError, match=r"^option=.{1,40}: is of type .*; give another$"):
            check_type("option", value, hint, "another")
