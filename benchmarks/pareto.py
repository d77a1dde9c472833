"""Quality against speed of every engine that comes with sr-deploy, at x2 and x4, beside public networks in fp32.

``python benchmarks/pareto.py SET5 [CHECKPOINT...]``: checkpoints are files of public networks, whose scale their name ends in
(``ETDS_M7C48_x2.pth``); they are exported in fp32 and run by the same ONNX Runtime, in RGB as they are. Each scale is one run of
``sr-bench``, engines taking turns. Writes ``docs/pareto_xN.png`` and ``pareto_xN.json``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sr_deploy.console import run
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
    data, checkpoints = sys.argv[1], [Path(name) for name in sys.argv[2:]]
    for scale in SCALES:
        with tempfile.TemporaryDirectory() as name:
            public = exported([path for path in checkpoints if path.stem.endswith(f"_x{scale}")], Path(name))
            engines = [str(engine.path()) for engine in shipped_engines() if scale in engine.scales]
            reports = [
                "--chart",
                str(ROOT / f"docs/pareto_x{scale}.png"),
                "--json",
                str(ROOT / f"benchmarks/pareto_x{scale}.json"),
            ]
            Path(reports[1]).unlink(missing_ok=True)
            options = ["--data", data, "--scale", str(scale), "--rounds", "7", *reports]
            subprocess.run(
                [sys.executable, "-m", "sr_deploy.runtime.bench.command", *engines, *map(str, public), *options], check=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(run("pareto.py", command))
