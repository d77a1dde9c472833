"""Quality against speed of every shipped engine, at x2 and x4, beside public networks in fp32.

``python benchmarks/pareto.py SET5 [CHECKPOINT...]``: checkpoints are files of public networks, whose scale their name ends in
(``ETDS_M7C48_x2.pth``); they are exported in fp32 and run by the same ONNX Runtime, in RGB as they are. Each scale is one run of
``sr-bench``, engines taking turns. Writes ``docs/pareto_xN.png`` and ``pareto_xN.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sr_deploy.console import run
from sr_deploy.errors import InputError
from sr_deploy.files import write_bytes, write_text
from sr_deploy.runtime.engines.shipped import shipped_engines

ROOT = Path(__file__).resolve().parent.parent
SCALES = (2, 4)


def exported(checkpoints: Sequence[Path], folder: Path) -> list[Path]:
    """Return the fp32 graphs of public RGB checkpoints."""
    for path in checkpoints:
        options = ["--precision", "fp32", "--shape", "1", "3", "256", "256"]
        subprocess.run(
            [sys.executable, "-m", "sr_deploy.export.command", str(path), "-o", str(folder), *options],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return sorted(folder.glob("*.onnx"))


def command() -> int:
    """Run sr-bench once a scale."""
    if len(sys.argv) < 2:
        raise InputError("pareto.py SET5 [CHECKPOINT...]: name the folder of Set5")
    data, checkpoints = sys.argv[1], [Path(name) for name in sys.argv[2:]]
    for path in checkpoints:
        if not path.stem.endswith(tuple(f"_x{scale}" for scale in SCALES)):
            raise InputError(f"{path}: its name ends in no scale; name files that end in {' or '.join(f'_x{s}' for s in SCALES)}")
    for scale in SCALES:
        with tempfile.TemporaryDirectory() as name:
            public = exported([path for path in checkpoints if path.stem.endswith(f"_x{scale}")], Path(name))
            engines = [str(engine.path()) for engine in shipped_engines() if scale in engine.scales]
            report, chart = Path(name) / "report.json", Path(name) / "chart.png"
            options = ["--data", data, "--scale", str(scale), "--rounds", "7", "--chart", str(chart), "--json", str(report)]
            bench = [sys.executable, "-m", "sr_deploy.runtime.bench.command"]
            subprocess.run([*bench, *engines, *map(str, public), *options], check=True)
            write_bytes(ROOT / f"docs/pareto_x{scale}.png", chart.read_bytes())
            found = json.loads(report.read_text())
            for row in found["results"]:
                row["engine"] = Path(row["engine"]).name
            write_text(ROOT / f"benchmarks/pareto_x{scale}.json", json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("pareto.py", command))
