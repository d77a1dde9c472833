"""What came of a build: why it failed, and whether the plan computes what its graph does."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.errors import CheckError
from sr_deploy.runtime.backends.engine import Tiles

AGREEMENT_DB = {"fp32": 80.0, "fp16": 55.0, "int8": 42.0}  # plan against ONNX Runtime on the same graph, peak 1
ADVICE = "look into its .plan.log, and run the .onnx meanwhile"
FLATTEST = 1e-4  # standard deviation of an output that is no picture
MEANINGS = (
    (r"[Cc]ould not find any implementation for node (\S+)", "no kernel fits node {0}: usually too little free GPU memory"),
    (r"[Oo]ut of memory|OutOfMemory|insufficient memory", "the GPU has too little free memory; close what else runs on it"),
    (r"[Nn]o importer registered for op: (\w+)", "this TensorRT does not know the operator {0}"),
    (r"[Uu]nsupported SM|compute capability|not supported on this (?:device|platform)", "this TensorRT does not serve this GPU"),
)


def explain(errors: Sequence[str]) -> str:
    """Return what a failed build means, followed by TensorRT's own words."""
    words = "; ".join(dict.fromkeys(errors)) or "TensorRT gave no reason"
    for pattern, meaning in MEANINGS:
        found = re.search(pattern, words)
        if found:
            return f"no plan could be built: {meaning.format(*found.groups())} ({words[:300]})"
    return f"no plan could be built ({words[:300]})"


def check_output(name: str, card: ModelCard, output: Tiles, expected: Tiles, *, native_limit: float | None = None) -> float:
    """Check what a plan computed against ONNX Runtime on the same graph; return the agreement in dB (peak 1).

    Raises:
        CheckError: not finite, constant, or too far away.
    """
    if not np.isfinite(output).all():
        raise CheckError(f"{name}: the plan returns values that are no finite numbers; nothing was written, {ADVICE}")
    if float(output.std()) < FLATTEST <= float(expected.std()):
        raise CheckError(f"{name}: the plan returns one constant, {float(output.mean()):.3f}; nothing was written, {ADVICE}")
    error = float(np.mean(np.square(output.astype(np.float64) - expected)))
    agreement = -10.0 * float(np.log10(max(error, 1e-20)))
    limit = AGREEMENT_DB[card.precision] if native_limit is None else native_limit
    if agreement < limit:
        raise CheckError(
            f"{name}: the plan agrees with ONNX Runtime by {agreement:.1f} dB, {limit:.0f} dB is the least for {card.precision}; "
            f"nothing was written, {ADVICE}"
        )
    return agreement
