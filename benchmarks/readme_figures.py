"""The tables of the documentation, from the JSON files beside this script and ``runtime/engines/engines.json``.

``python -m benchmarks.readme_figures`` rewrites every block between ``<!-- figures: NAME -->`` and ``<!-- /figures -->`` in the
README, in ``docs/`` and in ``benchmarks/README.md``; with ``--check`` it writes nothing and exits 1 where one is stale. A new
block is a function here with its name in ``BLOCKS``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality import MODELS, PAPERS, SCALES, SETS
from sr_deploy.console import run, table
from sr_deploy.errors import InputError
from sr_deploy.files import write_text

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- figures: ([\w ]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
PUBLIC = {"ETDS_M7C48": "ETDS-L, public, fp32", "ETDS_M6C32": "ETDS-M, public, fp32"}
PRUNED_BY = {
    "none": "L1 norm, no teacher",
    "output": "L1, `--distill output`",
    "features": "L1, `--distill features`",
    "both": "L1, `--distill both`",
    "taylor": "`--criterion taylor`",
    "taylor, both": "`--criterion taylor --distill both`",
}


def figures(name: str) -> Any:
    """Return what a benchmark wrote."""
    return json.loads((ROOT / f"benchmarks/{name}.json").read_text("utf-8"))


def shipped() -> list[dict[str, Any]]:
    """Return the entries of the shipped engines, plain networks first."""
    entries = json.loads((ROOT / "runtime/engines/engines.json").read_text("utf-8"))["engines"]
    return sorted(
        entries, key=lambda entry: (not entry["name"].startswith("plain_l"), not entry["name"].startswith("plain"), entry["name"])
    )


def family(name: str) -> str:
    """Return what the engines of one network are called together, whatever their scale and the making of their int8."""
    return re.sub(r"_(x\d+|qat|int8|fp32)(?=_|$)", "", name)


def as_table(rows: Iterable[Iterable[str]], *, left: int = 1) -> str:
    """Return a Markdown table whose cells take no more room than they need."""
    return re.sub(
        r"-{4,}(:?) \|", r"---\1 |", re.sub(r" {2,}", " ", table([list(row) for row in rows], markdown=True, left=left))
    )


def in_db(value: float | None, digits: int = 3) -> str:
    """Return decibels as they stand in a table; nothing for nothing."""
    return "" if value is None else f"{value:.{digits}f}"


def engines() -> str:
    """The README's table: what each shipped engine gives and costs, beside bicubic and public networks."""
    speed = {scale: {Path(row["engine"]).stem: row for row in figures(f"pareto_x{scale}")["results"]} for scale in (2, 4)}
    names: dict[str, dict[int, tuple[str, float | None]]] = {"bicubic": {s: ("", db) for s, db in bicubic().items()}}
    for entry in shipped():
        row = names.setdefault(f"`{family(entry['name'])}`", {})
        row.update({int(scale): (entry["name"], db) for scale, db in entry["psnr_db"].items()})
    for public, label in PUBLIC.items():
        rows = {scale: f"{public}_x{scale}_fp32" for scale in speed if f"{public}_x{scale}_fp32" in speed[scale]}
        names[label] = {scale: (stem, speed[scale][stem]["psnr_db"]) for scale, stem in rows.items()}
    rows_shown = [["engine", "x2: dB", "x2: ms", "x3: dB", "x4: dB", "x4: ms"]]
    for label, found in names.items():
        ms = {scale: speed[scale].get(found.get(scale, ("", None))[0], {}).get("ms_per_megapixel") for scale in speed}
        db = {scale: in_db(found.get(scale, ("", None))[1], 2) for scale in SCALES}
        rows_shown.append([label, db[2], *milliseconds(ms[2]), db[3], db[4], *milliseconds(ms[4])])
    return as_table(rows_shown)


def bicubic() -> dict[int, float]:
    """Return the PSNR of bicubic on Set5, by scale."""
    rows = [row for row in figures("quality")["results"] if (row["model"], row["data"]) == ("bicubic", "set5")]
    return {int(row["scale"]): float(row["psnr_db"]) for row in rows}


def milliseconds(value: float | None) -> list[str]:
    """Return one cell."""
    return ["" if value is None else f"{value:.0f}"]


def photograph() -> str:
    """What a photograph of a telephone takes."""
    found = figures("infer_memory")
    first = found["results"][0]
    return (
        f"A {found['picture'].split(',')[0]} takes `sr-infer` {first['wall_s']:.0f} seconds and {first['peak_mb']:.0f} MB "
        f"at x{found['scale']}\n(`benchmarks/infer_memory.py`, two cores)."
    )


def shipped_table() -> str:
    """Every shipped engine at every scale, beside fp32."""
    rows = [["engine", "scale", "PSNR dB", "fp32 dB", "kB"]]
    for entry in shipped():
        for scale, db in entry["psnr_db"].items():
            rows.append(
                [
                    f"`{entry['name']}`",
                    f"x{scale}",
                    in_db(db),
                    in_db(entry["fp32_psnr_db"][scale]),
                    f"{entry['bytes'] / 1000:.0f}",
                ]
            )
    return as_table(rows, left=1)


def quality(scale: int) -> str:
    """PSNR and SSIM of the pretrained networks at one scale, beside what papers report."""
    found = {(row["model"], row["data"]): row for row in figures("quality")["results"] if row["scale"] == scale}
    rows = [[f"x{scale}: PSNR dB / SSIM", "Set5", "Set14", "B100"]]
    for label in (label for label, served in MODELS.items() if scale in served):
        rows.append([label, *(f"{found[label, name]['psnr_db']:.2f} / {found[label, name]['ssim']:.4f}" for name in SETS)])
    return as_table([*rows, *([label, *cells] for label, cells in PAPERS[scale].items())])


def calibration() -> str:
    """What int8 loses, by calibration method."""
    rows = [["calibration", *(f"{label} x{scale}" for label in ("Set5", "Set14") for scale in SCALES)]]
    for row in figures("calibration_methods")["results"]:
        rows.append(
            [row["calibration"], *(in_db(row["drop_db"][name][str(scale)]) for name in ("set5", "set14") for scale in SCALES)]
        )
    return as_table(rows)


def int8_loss() -> str:
    """What int8 loses in the plain networks."""
    rows = [["", "int8 by", "in int8", "Set5", "Set14", "B100"]]
    for row in figures("int8_loss")["results"]:
        by, share = "QAT" if "_qat" in row["engine"] else "calibration", f"{100 * row['int8_share']:.1f} %"
        rows.append([f"`{row['engine']}`", by, share, *(in_db(row["drop_db"][name]) for name in SETS)])
    return as_table(rows)


def vdsr_engines() -> str:
    """VDSR dense and pruned in three ways of computing, in one run."""
    rows = [["engine", "speed-up over dense fp32", "PSNR dB, x2"]]
    rows += [
        [f"`{Path(r['engine']).stem}`", f"{r['speedup']:.2f}", in_db(r["psnr_db"])] for r in figures("vdsr_engines")["results"]
    ]
    return as_table(rows)


def pruning() -> str:
    """PSNR before and after a short fine-tuning, by criterion and teacher."""
    rows = [["", *(f"x{scale}" for scale in SCALES)]]
    for name, found in figures("pruning")["results"].items():
        before, after = (stage["psnr_db"] for stage in found["results"][-2:])
        rows.append([PRUNED_BY.get(name, name), *(f"{in_db(before[str(s)])} → {in_db(after[str(s)])}" for s in SCALES)])
    return as_table(rows)


def large() -> str:
    """Peak memory of pictures streamed and in memory."""
    found = {(row["picture"], row["engine"]): {} for row in figures("large")["results"]}
    for row in figures("large")["results"]:
        found[row["picture"], row["engine"]][row["way"]] = row
    rows = [["picture", "engine", "samples, in and out", "streamed", "in memory"]]
    for (picture, engine), ways in found.items():
        one = next(iter(ways.values()))
        peaks = [f"{ways[way]['peak_mb']:.0f} MB" if way in ways else "" for way in ("by rows", "in memory")]
        rows.append([picture, engine, f"{one['samples_mb']:.0f} MB", *peaks])
    return as_table(rows, left=2)


def deep_pictures() -> str:
    """CPU time and peak memory of deep and large pictures, by two states of the code."""
    found = figures("deep_pictures")["results"]
    labels = list(found)
    rows = [["`sr-infer` x2", *(f"{label}: CPU" for label in labels), *(f"{label}: peak" for label in labels)]]
    for case in found[labels[0]]:
        seconds = [f"{found[label][case]['cpu_s']:.1f} s" for label in labels]
        rows.append([case, *seconds, *(f"{found[label][case]['peak_mb']:.0f} MB" for label in labels)])
    return as_table(rows)


def photographs() -> str:
    """PSNR of JPEG files, by quality."""
    found = figures("photographs")["results"]
    rows = [["model", "data", *(name if name == "clean" else f"q{name}" for name in found[0]["psnr_db"])]]
    rows += [[r["model"], f"{r['data']} x{r['scale']}", *(in_db(db, 2) for db in r["psnr_db"].values())] for r in found]
    return as_table(rows, left=2)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "engines": engines,
    "photograph": photograph,
    "shipped": shipped_table,
    "quality x2": lambda: quality(2),
    "quality x3": lambda: quality(3),
    "quality x4": lambda: quality(4),
    "calibration": calibration,
    "int8 loss": int8_loss,
    "vdsr engines": vdsr_engines,
    "pruning": pruning,
    "large": large,
    "deep pictures": deep_pictures,
    "photographs": photographs,
}


def with_figures(text: str, page: str) -> str:
    """Return ``text`` with every block as the JSON files have it.

    Raises:
        InputError: a block has a name that nothing here makes.
    """

    def block(found: re.Match[str]) -> str:
        if found[2] not in BLOCKS:
            raise InputError(f"{page}: no figures are called {found[2]!r}; choose of {', '.join(BLOCKS)}")
        return f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}"

    return BLOCK.sub(block, text)


def command() -> int:
    """Rewrite the pages, or say which are stale."""
    check, stale = "--check" in sys.argv[1:], []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"):
        text = page.read_text("utf-8")
        fresh = with_figures(text, page.name)
        if fresh != text:
            stale.append(page.relative_to(ROOT))
            if not check:
                write_text(page, fresh)
    for name in stale:
        print(f"{name}: {'is stale; run python -m benchmarks.readme_figures' if check else 'rewritten'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(run("readme_figures.py", command))
