"""``sr-eval``: PSNR, SSIM, LPIPS and FID of models on folders of pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.console import run, table
from sr_deploy.gate.eval.options import METRICS, NETS, PROTOCOLS, EvalOptions
from sr_deploy.options import NATIVE_SUMS, PROVIDERS, Parser, options_from, positive_int, thread_count
from sr_deploy.strict_json import json_text

if TYPE_CHECKING:
    from sr_deploy.gate.eval.run import Measurement

PROG = "sr-eval"


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-eval``."""
    p = Parser(PROG, "Measure PSNR and SSIM of luma, LPIPS and FID of RGB, on folders of high-resolution pictures.")
    p.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="checkpoint, engine (.onnx, .plan or a name of sr-infer --list), or the word bicubic",
    )
    p.add_argument("--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of pictures")
    p.add_argument(
        "--scale",
        nargs="+",
        type=positive_int,
        default=(),
        metavar="N",
        help="factors (default: the model's own default; 2 for bicubic)",
    )
    p.add_argument("--protocol", choices=PROTOCOLS, default="whole", help="whole pictures, or fixed 256x256 (default: whole)")
    p.add_argument(
        "--metrics",
        nargs="+",
        choices=METRICS,
        default=("psnr", "ssim"),
        metavar="NAME",
        help="columns, of psnr ssim lpips fid (default: psnr ssim); lpips and fid need the extra metrics and public weights "
        "that are downloaded once; one that lacks them is left out, with a line that says what to do",
    )
    p.add_argument(
        "--lpips-net",
        choices=NETS,
        default="alex",
        help="network of LPIPS (default: alex, as its authors compare)",
    )
    p.add_argument("--unrounded", action="store_true", help="do not round luma to whole levels (RGB networks: it never is)")
    p.add_argument("--ensemble", action="store_true", help="mean over eight flips and turns")
    p.add_argument("--provider", choices=PROVIDERS, default="auto", help="where ONNX Runtime runs (default: auto)")
    p.add_argument("--native-sums", action="store_true", help=NATIVE_SUMS)
    p.add_argument("--trust-plan", action="store_true", help="load a plan without a card or with host code: you vouch for it")
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    p.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results as JSON; - for standard output instead of the table"
    )
    return p


def check_report(path: Path | None, models: Sequence[str], options: EvalOptions) -> None:
    """Check, before anything is measured, that the JSON file can be written.

    Raises:
        InputError: it would replace what is read.
    """
    from sr_deploy.files import check_reports, list_pictures

    pictures = [picture for folder in options.data for picture in list_pictures(folder)]
    check_reports({"--json": None if str(path) == "-" else path}, [*map(Path, models), *pictures])


def show(results: Sequence[Measurement], options: EvalOptions, path: Path | None) -> None:
    """Print the table with a column for each metric, or write the results as JSON (``-``: to standard output)."""
    from sr_deploy.files import write_text

    text = json_text({"results": [asdict(result) for result in results]})
    if path is not None and str(path) == "-":
        print(text, end="")
        return
    metrics = list(dict.fromkeys(options.metrics))
    net = next((f" {r.lpips_net}" for r in results if r.lpips_net is not None), "")
    names = {"psnr": "PSNR dB", "ssim": "SSIM", "lpips": f"LPIPS{net}", "fid": "FID"}
    heading = ["model", "data", "scale", "protocol", "images", *(names[metric] for metric in metrics)]
    rows = [
        [r.model, r.data, f"x{r.scale}", r.protocol, str(r.images), *(cell(r, metric) for metric in metrics)] for r in results
    ]
    luma = "luma unrounded" if options.unrounded else "luma in whole levels (of RGB networks unrounded)"
    print(f"{luma}, as many pixels shaved as the scale; checkpoints with their zero padding, engines with mirrored edges")
    print(table([heading, *rows]))
    if path is not None:
        write_text(path, text)


def cell(row: Measurement, metric: str) -> str:
    """Return a figure as the table shows it."""
    figures = {"psnr": (row.psnr_db, 3), "ssim": (row.ssim, 4), "lpips": (row.lpips, 4), "fid": (row.fid, 3)}
    value, digits = figures[metric]
    return "-" if value is None else f"{value:.{digits}f}"


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-eval`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        from sr_deploy.gate.eval.run import evaluate

        options = options_from(EvalOptions, arguments, {"scales": "scale"})
        check_report(arguments.json, arguments.models, options)
        show(evaluate(arguments.models, options).results, options, arguments.json)
        return 0

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())
