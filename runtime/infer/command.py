"""``sr-infer``: pictures to larger pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.console import run
from sr_deploy.options import MAX_PIXELS, PROVIDERS, Parser, positive_int, thread_count
from sr_deploy.runtime.large.memory import byte_count

if TYPE_CHECKING:
    from sr_deploy.runtime.infer.options import InferOptions

PROG = "sr-infer"
ELSEWHERE = {  # how other upscalers call it
    **dict.fromkeys(("-i", "--input"), "inputs are named without an option"),
    **dict.fromkeys(("-n", "-m", "--model", "--model_name", "--model-name"), "the engine is named with --engine"),
    **dict.fromkeys(("-s", "--outscale"), "the factor is --scale"),
    **dict.fromkeys(("-g", "--gpu", "--gpu-id", "--device"), "where it runs is --provider cuda or tensorrt"),
    **dict.fromkeys(("-t", "--tile", "--tile-size", "--tile_pad"), "an engine has its tiles: pictures of any size go through"),
    **dict.fromkeys(("-x", "--tta"), "the mean over flips and turns is --ensemble"),
    **dict.fromkeys(("-f", "--ext"), "the format of results is --format"),
}
FORMATS = ("png", "jpeg", "webp", "tiff", "bmp", "gif", "avif")  # the keys of those in formats.py, which --help does not wait for


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-infer``."""
    p = Parser(PROG, "Enlarge pictures and videos with a super-resolution engine.", elsewhere=ELSEWHERE)
    p.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE",
        help="picture or video, folder, quoted pattern ('**/*.png'), or - for standard input",
    )
    p.add_argument(
        "--engine",
        metavar="E",
        help="engine: .onnx, .plan or a name of --list, as l, m, photo, edsr, vdsr (default: l)",
    )
    p.add_argument("--list", action="store_true", help="show the shipped engines, and end")
    p.add_argument("--json", action="store_true", help="with --list: as JSON")
    p.add_argument("-o", "--output", metavar="OUT", help="folder, file for one picture, or - (default: beside the input)")
    p.add_argument("--scale", type=positive_int, metavar="N", help="factor (default: the engine's, 2 without --engine)")
    p.add_argument("--files-from", metavar="FILE", help="more pictures, one a line (or ended by NUL); - for standard input")
    p.add_argument("--shard", type=shard, metavar="I/N", default=(1, 1), help="of every N pictures only the I-th: 1/3, 2/3, 3/3")
    existing = p.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing files (never the input)")
    existing.add_argument("--skip-existing", action="store_true", help="enlarge only pictures whose result is missing")
    p.add_argument("--json-log", type=Path, metavar="FILE", help="append one line of JSON for each picture to FILE")
    p.add_argument("--provider", choices=PROVIDERS, default="auto", help="where ONNX Runtime runs (default: auto)")
    p.add_argument("--trust-plan", action="store_true", help="load a plan without a card or with host code: you vouch for it")
    p.add_argument("--codec", metavar="NAME", help="encoder of videos (default: libx264; for .webm libvpx-vp9)")
    p.add_argument("--crf", type=float, metavar="Q", help="constant quality of videos, smaller is better (default: libx264 18)")
    p.add_argument("--ensemble", action="store_true", help="mean over eight flips and turns: better, eight times the work")
    p.add_argument(
        "--times", action="store_true", help="print at the end what each stage took; with --list: time each engine here"
    )
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    p.add_argument(
        "--memory",
        type=byte_count,
        metavar="SIZE",
        help="stream pictures that need more memory than this: 2G, 800M (default: what is free)",
    )
    add_picture_options(p)
    return p


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about picture files."""
    p = parser.add_argument_group("picture files")
    p.add_argument("--format", choices=FORMATS, help="format of results (default: as the input; GIF becomes PNG)")
    p.add_argument("--quality", type=positive_int, metavar="Q", help="quality of JPEG, WebP and AVIF, 1 to 100 (default: 95)")
    p.add_argument("--frames", action="store_true", help="all frames of animations and pages of TIFF, not the first alone")
    p.add_argument(
        "--max-pixels", type=positive_int, default=MAX_PIXELS, metavar="N", help="reject larger pictures (default: %(default)s)"
    )
    p.add_argument("--allow-truncated", action="store_true", help="enlarge files that end early as far as they go")


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-infer`` and return its exit code."""
    p = parser()
    arguments = p.parse_args(argv)
    check_list(p, arguments)

    def command() -> int:
        if arguments.list:
            from sr_deploy.runtime.engines.listing import list_engines

            return list_engines(
                provider=arguments.provider, threads=arguments.threads, timed=arguments.times, as_json=arguments.json
            )
        from sr_deploy.runtime.infer.run import infer

        return infer(options_from(arguments))

    return run(PROG, command)


def options_from(arguments: argparse.Namespace) -> InferOptions:
    """Return what the command line asks for.

    Raises:
        InputError: no engine of that name, or options that do not go together.
        MachineError: an engine of sr-deploy is damaged.
    """
    from sr_deploy.pictures import Reading
    from sr_deploy.runtime.engines.shipped import engine_path
    from sr_deploy.runtime.infer.name_list import names_in
    from sr_deploy.runtime.infer.options import InferOptions
    from sr_deploy.runtime.pictures.formats import Writing

    return InferOptions(
        pictures=(*arguments.pictures, *(() if arguments.files_from is None else names_in(arguments.files_from))),
        engine=engine_path(arguments.engine, arguments.scale),
        output=arguments.output,
        scale=arguments.scale,
        overwrite=arguments.overwrite,
        skip_existing=arguments.skip_existing,
        shard=arguments.shard,
        json_log=arguments.json_log,
        reading=Reading(arguments.max_pixels, arguments.allow_truncated, arguments.frames),
        writing=Writing(arguments.format, arguments.quality),
        memory=arguments.memory,
        provider=arguments.provider,
        threads=arguments.threads,
        trusted=arguments.trust_plan,
        ensemble=arguments.ensemble,
        codec=arguments.codec,
        crf=arguments.crf,
        times=arguments.times,
    )


def shard(text: str) -> tuple[int, int]:
    """Return ``I/N`` as two numbers, for ``type=`` of an argument."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a whole; write 1/3, 2/3 or 3/3")
    return int(part), int(parts)


def check_list(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with exit code 2 where ``--list`` and the other arguments do not fit together."""
    if not arguments.list and not arguments.pictures and arguments.files_from is None:
        p.error("the following arguments are required: PICTURE")
    left_out = [
        *arguments.pictures,
        *(["--engine"] if arguments.engine else []),
        *(["--files-from"] if arguments.files_from else []),
    ]
    if arguments.list and left_out:
        p.error(f"--list: shows all engines; leave {' '.join(left_out)} out")
    if arguments.files_from == "-" and "-" in arguments.pictures:
        p.error("--files-from -: standard input is a picture already; name a file")
    if arguments.json and not arguments.list:
        p.error("--json: goes with --list")


if __name__ == "__main__":
    sys.exit(main())
