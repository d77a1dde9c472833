"""What ``sr-eval`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sr_deploy.console import progress, table
from sr_deploy.degrade import Planes
from sr_deploy.errors import CheckError, InputError
from sr_deploy.files import check_reports, list_pictures, write_text
from sr_deploy.gate.models import Model, open_model
from sr_deploy.measure import Score, mean, score, score_fixed
from sr_deploy.pictures import read_measured


@dataclass(frozen=True)
class Result:
    """One model on one folder at one scale."""

    model: str
    data: str
    scale: int
    protocol: str
    images: int
    psnr_db: float | None  # None: identical pictures, infinite
    ssim: float


def eval_command(arguments: argparse.Namespace) -> int:
    """Measure every model on every folder and return the exit code."""
    folders = {folder: list_pictures(folder) for folder in arguments.data}
    pictures = [path for paths in folders.values() for path in paths]
    check_reports({"--json": arguments.json}, [*map(Path, arguments.models), *pictures])
    results = []
    for name in arguments.models:
        model = open_model(
            name,
            provider=arguments.provider,
            threads=arguments.threads,
            trusted=arguments.trust_plan,
            ensemble=arguments.ensemble,
        )
        check_protocol(model, arguments.protocol)
        for folder, paths in folders.items():
            for scale in arguments.scale or [model.card.default_scale if model.card else 2]:
                found = measure_folder(model, paths, scale, arguments.protocol)
                psnr_db = found.psnr_db if math.isfinite(found.psnr_db) else None
                results.append(Result(name, str(folder), scale, arguments.protocol, len(paths), psnr_db, found.ssim))
    report(results, arguments.json)
    return 0


def check_protocol(model: Model, protocol: str) -> None:
    """Check that the protocol applies to the model.

    Raises:
        InputError: ``fixed`` with something that does not keep the size.
    """
    if protocol == "fixed" and model.color == "rgb":
        raise InputError(f"{model.name}: --protocol fixed is defined for luma, this network takes RGB; leave it out")
    if protocol == "fixed" and (model.card is None or model.card.upscale != "before"):
        raise InputError(f"{model.name}: --protocol fixed measures networks that sharpen an enlarged picture, not {model.name}")


def measure_folder(model: Model, paths: Sequence[Path], scale: int, protocol: str) -> Score:
    """Return the mean quality over pictures.

    Raises:
        InputError: the model does not serve ``scale``, or a picture is broken or too small.
    """
    if model.card is not None and scale not in model.card.scales:
        raise InputError(f"{model.name}: serves scales {', '.join(map(str, model.card.scales))}, not {scale}")
    scores = []
    with progress(f"{Path(model.name).name} x{scale}", len(paths)) as advance:
        for path in paths:
            hr = read_measured(path, model.color)
            try:
                found = measure_picture(model, hr, scale, protocol)
            except ValueError as err:
                raise InputError(f"{path}: too small to measure at x{scale} ({err}); leave it out of the folder") from err
            if found.psnr_db == -math.inf:
                raise CheckError(f"{model.name}: returns values that are no finite numbers on {path}; export or train it again")
            scores.append(found)
            advance()
    return mean(scores)


def measure_picture(model: Model, hr: Planes, scale: int, protocol: str) -> Score:
    """Return the quality on one picture; ``hr`` is luma, (h, w), or RGB, (3, h, w), in grey levels."""
    if protocol == "fixed":
        network = model.network
        assert network is not None
        return score_fixed(lambda plane: network(plane, scale), hr, scale)
    return score(model.enlarge, hr, scale)


def report(results: Sequence[Result], path: Path | None) -> None:
    """Print the table, or write the results as JSON (``-``: to standard output)."""
    text = json.dumps({"results": [asdict(result) for result in results]}, indent=2) + "\n"
    if path is not None and str(path) == "-":
        print(text, end="")
        return
    heading = ["model", "data", "scale", "protocol", "images", "PSNR dB", "SSIM"]
    rows = [
        [
            r.model,
            r.data,
            f"x{r.scale}",
            r.protocol,
            str(r.images),
            "inf" if r.psnr_db is None else f"{r.psnr_db:.3f}",
            f"{r.ssim:.4f}",
        ]
        for r in results
    ]
    print(table([heading, *rows]))
    if path is not None:
        write_text(path, text)
