"""Thresholds of int8 from what flowed through the fp32 graph, as a file that a person can read and an equal export uses again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sr_deploy.errors import InputError
from sr_deploy.export.calibration.activations import Activations
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.files import digest_bytes, read_bytes, write_text
from sr_deploy.notes import LINES
from sr_deploy.thresholds import choose


@dataclass(frozen=True)
class Calibration:
    """Thresholds and what they were made from; written as JSON that a person can read."""

    graph: str  # digest of the fp32 graph
    data: str  # digest of the pictures, the scale and the tiles
    method: str
    refined: bool  # by what thresholds do to the output
    scales: tuple[int, ...]  # that the pictures were degraded at
    maxima: dict[str, float]  # the largest magnitude of every value of the graph
    thresholds: dict[str, float]  # convolution -> largest represented magnitude of its input; NAME.output -> of its output
    shifts: dict[str, list[float]]  # convolution -> what its bias gains in int8, by output channel; empty: not corrected

    @property
    def refinements(self) -> tuple[str, ...]:
        """What was done beyond the method."""
        return tuple(name for name, done in (("refined", self.refined), ("bias corrected", bool(self.shifts))) if done)

    @property
    def how(self) -> str:
        """How the thresholds were made, as text."""
        return ", ".join((self.method, *self.refinements))

    @property
    def digest(self) -> str:
        """The digest that cards carry."""
        return digest_bytes(self.to_json().encode())

    def to_json(self) -> str:
        """Return everything but the digest as text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Write the file with its digest, whole or not at all."""
        write_text(path, json.dumps({**asdict(self), "digest": self.digest}, indent=2) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Return the calibration in a file.

    Raises:
        InputError: missing, damaged, or changed after it was made.
    """
    try:
        values = json.loads(read_bytes(path, advice="make it with sr-export --precision int8"))
        thresholds = {str(k): float(v) for k, v in values["thresholds"].items()}
        if not all(np.isfinite(v) and v > 0.0 for v in thresholds.values()):
            raise ValueError("a threshold is not above 0")
        shifts = {str(k): [float(v) for v in shift] for k, shift in values["shifts"].items()}
        if not all(np.isfinite(shift).all() for shift in shifts.values()):
            raise ValueError("a shift is no finite number")
        maxima = {str(k): float(v) for k, v in values["maxima"].items()}
        scales = tuple(int(scale) for scale in values["scales"])
        found = Calibration(
            values["graph"], values["data"], values["method"], bool(values["refined"]), scales, maxima, thresholds, shifts
        )
        stated = str(values["digest"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        raise InputError(f"{path}: not a thresholds file ({err}); calibrate again without --thresholds") from err
    if found.digest != stated:
        raise InputError(
            f"{path}: changed after it was made (digest {found.digest[7:19]}, it says {stated[7:19]}); "
            "calibrate again without --thresholds"
        )
    return found


def calibrate(graph_digest: str, tiles: CalibrationSet, found: Activations, *, method: str) -> Calibration:
    """Return the thresholds of every convolution's input, and of what ends a residual block, by ``method``.

    ``found`` is what flowed through the graph of ``graph_digest`` on ``tiles``.
    """
    thresholds = {name: choose(histogram, method, name=name) for name, histogram in found.histograms.items()}
    return Calibration(graph_digest, tiles.digest, method, False, tiles.cut.scales, dict(found.maxima), thresholds, {})


def stored_calibration(
    paths: Sequence[Path], *, graph_digest: str, tiles: CalibrationSet, method: str, refinements: tuple[str, ...]
) -> tuple[Calibration, Path] | None:
    """Return the first stored calibration that belongs to this graph, these pictures and this method, and its file.

    A line says which file is there but belongs to something else.
    """
    for path in paths:
        if not path.exists():
            continue
        try:
            stored = read_calibration(path)
            check_same(stored, graph_digest, tiles, method, source=str(path))
            if stored.refinements != refinements:
                asked = ", ".join((method, *refinements))
                raise InputError(f"{path}: made by {stored.how}, this export asks for {asked}")
        except InputError as err:
            LINES.info(f"not reused, calibrating again: {str(err).partition('; calibrate')[0]}")
        else:
            return stored, path
    return None


def check_same(calibration: Calibration, graph_digest: str, tiles: CalibrationSet, method: str, *, source: str) -> None:
    """Check that stored thresholds belong to this graph, these pictures and this method.

    Raises:
        InputError: they do not.
    """
    pairs: Sequence[tuple[str, object, object]] = (
        ("graph", calibration.graph, graph_digest),
        ("calibration pictures", calibration.data, tiles.digest),
        ("method", calibration.method, method),
    )
    for what, theirs, ours in pairs:
        if theirs != ours:
            short = [str(v).removeprefix("sha256:")[:12] for v in (theirs, ours)]
            raise InputError(
                f"{source}: made with {what} {short[0]}, this export has {short[1]}; calibrate again without --thresholds"
            )
