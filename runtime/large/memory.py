"""Amounts of memory as people write them."""

from __future__ import annotations

import argparse
import re

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LEAST = 2**26


def byte_count(text: str) -> int:
    """Return ``2G``, ``1.5GiB``, ``800M`` or a plain number as bytes (units of 1024), for ``type=`` of an argument."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory; write 2G or 800M")
    value = int(float(found[1]) * UNITS[found[2]])
    if value < LEAST:
        raise argparse.ArgumentTypeError(f"{text} is less than {LEAST // 2**20}M, which no picture can do with")
    return value


def in_words(count: float) -> str:
    """Return bytes as people write them: ``1.4 GB`` (of 1024 MB)."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{max(count / 2**20, 1):.0f} MB"
