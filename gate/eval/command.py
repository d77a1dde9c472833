"""``sr-eval``: PSNR, SSIM, LPIPS and FID of models on folders of pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import run
from sr_deploy.options import NATIVE_SUMS, PROVIDERS, Parser, positive_int, thread_count

PROG = "sr-eval"
METRICS = ("psnr", "ssim", "lpips", "fid")


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-eval``."""
    p = Parser(PROG, "Measure PSNR and SSIM of luma, LPIPS and FID of RGB, on folders of high-resolution pictures.")
    p.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="checkpoint, engine (.onnx, .plan, or a name of sr-infer --list), or the word bicubic",
    )
    p.add_argument("--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of pictures")
    p.add_argument(
        "--scale", nargs="+", type=positive_int, metavar="N", help="factors (default: the model's own default; 2 for bicubic)"
    )
    p.add_argument(
        "--protocol", choices=("whole", "fixed"), default="whole", help="whole pictures, or fixed 256x256 (default: whole)"
    )
    p.add_argument(
        "--metrics",
        nargs="+",
        choices=METRICS,
        default=["psnr", "ssim"],
        metavar="NAME",
        help="columns, of psnr ssim lpips fid (default: psnr ssim); lpips and fid need sr-deploy[metrics] and public weights "
        "that are downloaded once; one that lacks them is left out, with a line that says what to do",
    )
    p.add_argument(
        "--lpips-net",
        choices=("alex", "vgg", "squeeze"),
        default="alex",
        help="network of LPIPS (default: alex, as its authors compare)",
    )
    p.add_argument("--ensemble", action="store_true", help="mean over eight flips and turns")
    p.add_argument("--provider", choices=PROVIDERS, default="auto", help="where ONNX Runtime runs (default: auto)")
    p.add_argument("--native-sums", action="store_true", help=NATIVE_SUMS)
    p.add_argument("--trust-plan", action="store_true", help="load a plan without a card or with host code: you vouch for it")
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    p.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results as JSON; - for standard output instead of the table"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-eval`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        from sr_deploy.gate.eval.run import eval_command

        return eval_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())
