"""The gate's results as a table, JSON, JUnit XML and a Markdown summary."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sr_deploy.console import table
from sr_deploy.errors import MachineError
from sr_deploy.files import write_bytes, write_text
from sr_deploy.gate.check import EngineResult
from sr_deploy.strict_json import json_text

FOOTNOTE = "drop: dB below fp32; agreement: dB between both outputs, shift: grey levels between them, of the picture furthest off"


def result_table(results: Sequence[EngineResult], reference: str, reference_ms: float, *, markdown: bool = False) -> str:
    """Return one row per engine and one for the reference."""
    heading = ["engine", "scale", "PSNR dB", "drop", "worst drop", "agreement", "shift", "ms/tile", "gate"]
    rows = [heading]
    for scale in sorted({r.scale for r in results}):
        first = next(r for r in results if r.scale == scale)
        figures = [f"x{scale}", f"{first.reference_db:.3f}", *[""] * 4, milliseconds(reference_ms), ""]
        rows.append([f"{Path(reference).name} (reference)", *figures])
    for r in results:
        verdict = "FAILED" if r.failures else f"ok ({r.note.partition(':')[0]})" if r.note else "ok"
        rows.append(
            [
                Path(r.name).name,
                f"x{r.scale}",
                f"{r.psnr_db:.3f}",
                f"{r.drop_db:+.3f}",
                f"{r.worst_drop.drop_db:+.3f}",
                f"{r.worst_agreement.agreement_db:.1f}",
                f"{r.worst_shift.shift_levels:+.3f}",
                milliseconds(r.latency_ms),
                verdict,
            ]
        )
    apart = "\n\n" if markdown else "\n"
    return apart.join((table(rows, markdown=markdown), FOOTNOTE))


def write_json(path: Path, results: Sequence[EngineResult], reference: str, data: str) -> None:
    """Write everything measured as JSON."""
    entries = [
        {
            "engine": r.name,
            "precision": r.precision,
            "scale": r.scale,
            **r.figures(),
            "weight_error_steps": r.weight_error[0] if r.weight_error else None,
            "threshold_ratios": dict(r.threshold_ratios),
            "latency_ms": r.latency_ms,
            "budget": asdict(r.budget),
            "note": r.note,
            "passed": not r.failures,
            "failures": list(r.failures),
            "pictures": [{**asdict(p), "drop_db": p.drop_db} for p in r.pictures],
        }
        for r in results
    ]
    write_text(path, json_text({"reference": reference, "data": data, "results": entries}))


def write_junit(path: Path, results: Sequence[EngineResult]) -> None:
    """Write one test case per engine as JUnit XML, which CI systems show."""
    failed = sum(bool(r.failures) for r in results)
    suite = ET.Element("testsuite", name="sr-gate", tests=str(len(results)), failures=str(failed), errors="0", skipped="0")
    for r in results:
        case = ET.SubElement(suite, "testcase", classname="sr-gate", name=f"{r.name} x{r.scale}")
        for line in r.failures:
            ET.SubElement(case, "failure", message=line)
    write_bytes(path, ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def milliseconds(value: float) -> str:
    """Return a time with as many digits as are of use: a GPU takes a fraction of a millisecond for a tile."""
    return f"{value:.1f}" if value >= 10.0 else f"{value:.3f}"


def append_summary(path: Path, results: Sequence[EngineResult], reference: str, reference_ms: float) -> None:
    """Append a Markdown section, as GitHub's step summary wants it.

    Raises:
        MachineError: the file cannot be written.
    """
    failures = "".join(f"- {line}\n" for r in results for line in r.failures)
    text = f"### sr-gate\n\n{result_table(results, reference, reference_ms, markdown=True)}\n\n{failures}"
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as err:
        raise MachineError(f"{path}: cannot be written ({err.strerror}); check --summary") from err
