"""Reports are JSON that every parser reads, whatever was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

from sr_deploy.strict_json import json_text

FOLDERS = ("sr_deploy", "train", "compress", "export", "runtime", "gate")
NO_REPORTS = {  # cards, digests and files of ours, in which a number that is none is an error of its own
    "sr_deploy/card.py",
    "sr_deploy/strict_json.py",
    "train/loop/state.py",
    "compress/pruning/rounds.py",
    "runtime/infer/claims.py",
    "export/accuracy/decision_file.py",
    "export/accuracy/selection.py",
    "export/calibration/calibrate.py",
    "export/calibration/pictures.py",
    "runtime/backends/plan_file.py",
}


def test_what_is_no_finite_number_is_null() -> None:
    value = {"a": math.inf, "b": (1.5, -math.inf, [math.nan, None, "Infinity"]), "c": {"2": 3}}
    found = json.loads(json_text(value), parse_constant=lambda constant: 1 / 0)
    assert found == {"a": None, "b": [1.5, None, [None, None, "Infinity"]], "c": {"2": 3}}
    assert json_text({"a": 1}, indent=None) == '{"a": 1}\n'


def test_every_report_is_written_by_it(root: Path) -> None:
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*.py")]
    found = {str(path.relative_to(root)) for path in files if "json.dump" in path.read_text("utf-8")}
    assert found <= NO_REPORTS
