"""What ``sr-eval`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sr_deploy.console import one_line, table
from sr_deploy.degrade import Planes
from sr_deploy.errors import CheckError, InputError
from sr_deploy.files import check_reports, list_pictures, write_text
from sr_deploy.gate.eval.perceptual import FID_LEAST, FID_RECOMMENDED, Perceptual, open_metrics, rgb_pair
from sr_deploy.gate.models import Model, open_model
from sr_deploy.measure import Score, compare, enlarged_pair, fixed_pair, levels, mean
from sr_deploy.pictures import open_picture
from sr_deploy.planes import is_grey, read_measured, rgb_pixels
from sr_deploy.progress import progress


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
    lpips: float | None  # None: not measured
    lpips_net: str | None
    fid: float | None

    def cell(self, metric: str) -> str:
        """Return a figure as the table shows it."""
        if metric == "psnr":
            return "inf" if self.psnr_db is None else f"{self.psnr_db:.3f}"
        value, digits = {"ssim": (self.ssim, 4), "lpips": (self.lpips, 4), "fid": (self.fid, 3)}[metric]
        return "-" if value is None else f"{value:.{digits}f}"


def eval_command(arguments: argparse.Namespace) -> int:
    """Measure every model on every folder and return the exit code."""
    folders = {folder: list_pictures(folder) for folder in arguments.data}
    pictures = [path for paths in folders.values() for path in paths]
    check_reports({"--json": arguments.json}, [*map(Path, arguments.models), *pictures])
    metrics = list(dict.fromkeys(arguments.metrics))
    perceptual = open_metrics(metrics, net=arguments.lpips_net, threads=arguments.threads)
    served = {folder: served_by(paths, perceptual, folder) for folder, paths in folders.items()}
    results = []
    for name, scales in [(model, some) for model in arguments.models for some in runs_of(model, arguments.scale)]:
        model = open_model(
            name,
            provider=arguments.provider,
            threads=arguments.threads,
            trusted=arguments.trust_plan,
            ensemble=arguments.ensemble,
            exact=not arguments.native_sums,
            scale=scales[0] if scales else None,
        )
        check_protocol(model, arguments.protocol)
        for folder, paths in folders.items():
            for scale in scales or [model.card.default_scale if model.card else 2]:
                found = measure_folder(model, paths, scale, arguments.protocol, served[folder])
                figures = {metric: figure.take() for metric, figure in served[folder].items()}
                psnr_db = found.psnr_db if math.isfinite(found.psnr_db) else None
                lpips_net = arguments.lpips_net if "lpips" in figures else None
                measured = (psnr_db, found.ssim, figures.get("lpips"), lpips_net, figures.get("fid"))
                results.append(Result(name, str(folder), scale, arguments.protocol, len(paths), *measured))
    report(results, metrics, arguments.json)
    return 0


def runs_of(name: str, scales: Sequence[int] | None) -> list[Sequence[int]]:
    """Return the scales that a model is opened for at once: a name may stand for another engine at each."""
    if not scales or Path(name).suffix or name == "bicubic":
        return [scales or ()]
    return [(scale,) for scale in scales]


def check_protocol(model: Model, protocol: str) -> None:
    """Check that the protocol applies to the model.

    Raises:
        InputError: ``fixed`` with something that does not keep the size.
    """
    if protocol == "fixed" and model.color == "rgb":
        raise InputError(f"{model.name}: --protocol fixed is defined for luma, this network takes RGB; leave it out")
    if protocol == "fixed" and (model.card is None or model.card.upscale != "before"):
        raise InputError(f"{model.name}: --protocol fixed measures networks that sharpen an enlarged picture, not {model.name}")


def served_by(paths: Sequence[Path], metrics: Mapping[str, Perceptual], folder: Path) -> dict[str, Perceptual]:
    """Return those of ``metrics`` that ``paths`` are enough for; a line on standard error says what is wrong with FID."""
    if "fid" not in metrics or len(paths) >= FID_RECOMMENDED:
        return dict(metrics)
    where = f"sr-eval: warning: {one_line(str(folder))}: "
    if len(paths) < FID_LEAST:
        print(f"{where}FID is left out: it needs at least {FID_LEAST} pictures, here is {len(paths)}", file=sys.stderr)
        return {name: metric for name, metric in metrics.items() if name != "fid"}
    print(
        f"{where}FID of {len(paths)} pictures is biased: compare it only between models on the same pictures; its "
        f"authors ask for more than 2048 and recommend {FID_RECOMMENDED} (Heusel et al., NIPS 2017; github.com/bioinf-jku/TTUR)",
        file=sys.stderr,
    )
    return dict(metrics)


def measure_folder(model: Model, paths: Sequence[Path], scale: int, protocol: str, perceptual: Mapping[str, Perceptual]) -> Score:
    """Return the mean quality over pictures; ``perceptual`` is fed with them.

    Raises:
        InputError: the model does not serve ``scale``, or a picture is broken or too small.
    """
    if model.card is not None and scale not in model.card.scales:
        raise InputError(f"{model.name}: serves scales {', '.join(map(str, model.card.scales))}, not {scale}")
    scores = []
    with progress(f"{Path(model.name).name} x{scale}", len(paths)) as advance:
        for path in paths:
            try:
                scores.append(measure_picture(model, path, scale, protocol, perceptual))
            except ValueError as err:
                raise InputError(f"{path}: too small to measure at x{scale} ({err}); leave it out of the folder") from err
            advance()
    return mean(scores)


def measure_picture(model: Model, path: Path, scale: int, protocol: str, perceptual: Mapping[str, Perceptual]) -> Score:
    """Return the quality on one picture; ``perceptual`` is fed with what the same run of the network made.

    Raises:
        ValueError: it is too small.
        CheckError: the model returns values that are no finite numbers.
    """
    sr, hr = restored_pair(model, read_measured(path, model.color), scale, protocol)
    found = compare(levels(sr), hr, scale)
    if found.psnr_db == -math.inf:
        raise CheckError(f"{model.name}: returns values that are no finite numbers on {path}; export or train it again")
    if perceptual:
        image = open_picture(path)
        pair = rgb_pair(sr, rgb_pixels(image), scale, grey=is_grey(image))
        for metric in perceptual.values():
            metric.add(*pair)
    return found


def restored_pair(model: Model, hr: Planes, scale: int, protocol: str) -> tuple[Planes, Planes]:
    """Return what the model makes of a degraded picture, unrounded in [0, 1], and the original in grey levels."""
    if protocol == "fixed":
        network = model.network
        assert network is not None
        return fixed_pair(lambda plane: network(plane, scale), hr, scale)
    return enlarged_pair(model.enlarge, hr, scale)


def report(results: Sequence[Result], metrics: Sequence[str], path: Path | None) -> None:
    """Print the table with a column for each of ``metrics``, or write the results as JSON (``-``: to standard output)."""
    text = json.dumps({"results": [asdict(result) for result in results]}, indent=2) + "\n"
    if path is not None and str(path) == "-":
        print(text, end="")
        return
    net = next((f" {r.lpips_net}" for r in results if r.lpips_net is not None), "")
    names = {"psnr": "PSNR dB", "ssim": "SSIM", "lpips": f"LPIPS{net}", "fid": "FID"}
    heading = ["model", "data", "scale", "protocol", "images", *(names[metric] for metric in metrics)]
    rows = [[r.model, r.data, f"x{r.scale}", r.protocol, str(r.images), *(r.cell(metric) for metric in metrics)] for r in results]
    print(table([heading, *rows]))
    if path is not None:
        write_text(path, text)
