"""The options that say what ``sr-infer`` reads and how it writes; light, so that ``--help`` is fast."""

from __future__ import annotations

import argparse

from sr_deploy.options import positive_int

FORMAT_NAMES = ("png", "jpeg", "webp", "tiff", "bmp", "gif")
MAX_PIXELS = 500_000_000


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about picture files."""
    p = parser.add_argument_group("picture files")
    p.add_argument("--format", choices=FORMAT_NAMES, help="of results (default: the input's; of a GIF, png)")
    p.add_argument("--quality", type=positive_int, metavar="Q", help="of JPEG and WebP, 1 to 100 (default: 95)")
    p.add_argument("--frames", action="store_true", help="all frames of animations and pages of TIFF, not the first alone")
    p.add_argument(
        "--max-pixels", type=positive_int, default=MAX_PIXELS, metavar="N", help="refuse larger files (default: %(default)s)"
    )
    p.add_argument("--allow-truncated", action="store_true", help="take what is there of files that end early")
