"""The evaluation: PSNR, SSIM and, where asked, LPIPS and FID of models on folders of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.degrade import Planes
from sr_deploy.errors import CheckError, InputError
from sr_deploy.files import list_pictures
from sr_deploy.gate.eval.options import EvalOptions
from sr_deploy.gate.eval.perceptual import FID_LEAST, FID_RECOMMENDED, Perceptual, open_metrics, rgb_pair
from sr_deploy.gate.models import Model, open_model
from sr_deploy.measure import EQUAL_DB, NO_NUMBER_DB, Score, compare, enlarged_pair, fixed_pair, levels, mean
from sr_deploy.notes import NOTES
from sr_deploy.options import check_type
from sr_deploy.pictures import open_picture
from sr_deploy.planes import is_grey, read_measured, rgb_pixels
from sr_deploy.progress import OnStep, progress, progress_to


@dataclass(frozen=True)
class Measurement:
    """One model on one folder at one scale."""

    model: str
    data: str
    scale: int
    protocol: str
    images: int
    psnr_db: float
    ssim: float
    lpips: float | None  # None: not measured
    lpips_net: str | None
    fid: float | None


@dataclass(frozen=True)
class EvalResult:
    """The quality of models on pictures."""

    results: tuple[Measurement, ...]  # by model, folder and scale


def evaluate(models: Sequence[str | Path], options: EvalOptions, *, progress: OnStep | None = None) -> EvalResult:
    """Measure models on folders of pictures; ``progress`` is called with every step.

    Args:
        models: checkpoints, engines or their names, and the word ``bicubic``.
        options: what is measured, and on which pictures.
        progress: called with every step.

    Raises:
        InputError: a file is missing or damaged, or a model does not serve what is asked for.
        CheckError: a model returns values that are no finite numbers.
    """
    check_type("models", models, tuple[str | Path, ...], "names or paths")
    if not models:
        raise InputError("models=(): none to measure; name at least one")
    with progress_to(progress):
        folders = {folder: list_pictures(folder) for folder in options.data}
        perceptual = open_metrics(list(dict.fromkeys(options.metrics)), net=options.lpips_net, threads=options.threads)
        served = {folder: metrics_for(paths, perceptual, folder) for folder, paths in folders.items()}
        found: list[Measurement] = []
        for name, scales in [(str(model), some) for model in models for some in runs_of(str(model), options.scales)]:
            model = open_checked(name, scales, options)
            for folder, paths in folders.items():
                for scale in scales or [model.card.default_scale if model.card else 2]:
                    scores = measure_folder(model, paths, scale, options, served[folder])
                    figures = {metric: figure.take() for metric, figure in served[folder].items()}
                    if "psnr" in options.metrics:
                        tell_equal(scores, folder, name)
                    score = mean(scores)
                    net = options.lpips_net if "lpips" in figures else None
                    measured = (score.psnr_db, score.ssim, figures.get("lpips"), net, figures.get("fid"))
                    found.append(Measurement(name, str(folder), scale, options.protocol, len(paths), *measured))
    return EvalResult(tuple(found))


def open_checked(name: str, scales: Sequence[int], options: EvalOptions) -> Model:
    """Return a model that can be measured by the protocol."""
    model = open_model(
        name,
        provider=options.provider,
        threads=options.threads,
        trusted=options.trust_plan,
        ensemble=options.ensemble,
        exact=not options.native_sums,
        scale=scales[0] if scales else None,
    )
    check_protocol(model, options.protocol)
    return model


def runs_of(name: str, scales: Sequence[int]) -> list[Sequence[int]]:
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


def metrics_for(paths: Sequence[Path], metrics: Mapping[str, Perceptual], folder: Path) -> dict[str, Perceptual]:
    """Return those of ``metrics`` that ``paths`` are enough for; a warning says what is wrong with FID."""
    if "fid" not in metrics or len(paths) >= FID_RECOMMENDED:
        return dict(metrics)
    if len(paths) < FID_LEAST:
        NOTES.warning(f"{folder}: FID is left out: it needs at least {FID_LEAST} pictures, here is {len(paths)}")
        return {name: metric for name, metric in metrics.items() if name != "fid"}
    NOTES.warning(
        f"{folder}: FID of {len(paths)} pictures is biased: compare it only between models on the same pictures; its "
        f"authors ask for more than 2048 and recommend {FID_RECOMMENDED} (Heusel et al., NIPS 2017; github.com/bioinf-jku/TTUR)"
    )
    return dict(metrics)


def measure_folder(
    model: Model, paths: Sequence[Path], scale: int, options: EvalOptions, perceptual: Mapping[str, Perceptual]
) -> list[Score]:
    """Return the quality on each picture; ``perceptual`` is fed with them.

    Raises:
        InputError: the model does not serve ``scale``, or a picture is broken or too small.
    """
    if model.card is not None and scale not in model.card.scales:
        raise InputError(f"{model.name}: serves scales {', '.join(map(str, model.card.scales))}, not {scale}")
    scores = []
    with progress(f"{Path(model.name).name} x{scale}", len(paths)) as advance:
        for path in paths:
            try:
                scores.append(measure_picture(model, path, scale, options, perceptual))
            except ValueError as err:
                raise InputError(f"{path}: too small to measure at x{scale} ({err}); leave it out of the folder") from err
            advance()
    return scores


def tell_equal(scores: Sequence[Score], folder: Path, name: str) -> None:
    """Note how many pictures come out equal to their original, as flat ones do: they raise the mean."""
    equal = sum(score.psnr_db >= EQUAL_DB for score in scores)
    if equal:
        NOTES.warning(
            f"{folder}: {equal} of {len(scores)} pictures come out of {name} as they were, as flat ones do; each counts as "
            f"{EQUAL_DB:g} dB in the mean, leave them out"
        )


def measure_picture(model: Model, path: Path, scale: int, options: EvalOptions, perceptual: Mapping[str, Perceptual]) -> Score:
    """Return the quality on one picture; ``perceptual`` is fed with what the same run of the network made.

    Raises:
        ValueError: it is too small.
        CheckError: the model returns values that are no finite numbers.
    """
    rounded = model.color == "rgb" or not options.unrounded
    sr, hr = restored_pair(model, read_measured(path, model.color, rounded=rounded), scale, options.protocol)
    found = compare(levels(sr, rounded=rounded), hr, scale)
    if found.psnr_db == NO_NUMBER_DB:
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
