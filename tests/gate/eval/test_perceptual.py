"""LPIPS and FID in ``sr-eval``: what is compared, and torchmetrics' own classes on networks of the test."""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.degrade import Planes, bicubic_pair, imresize
from sr_deploy.gate.eval import perceptual
from sr_deploy.gate.eval.command import main
from sr_deploy.gate.eval.options import EvalOptions
from sr_deploy.gate.eval.perceptual import Fid, Pixels, rgb_pair
from sr_deploy.gate.eval.run import measure_folder
from sr_deploy.gate.models import Model, open_model
from sr_deploy.measure import enlarged_pair, levels
from sr_deploy.planes import read_luma, read_rgb, read_rgb_planes
from tests.runtime import tiny_onnx as tiny

if TYPE_CHECKING:
    import torch

# Colours of one rounded luma (BT.601): a picture of them has all its detail in colour.
EQUAL_LUMA = ((182, 69, 45), (17, 153, 45))
WHOLE, FIXED = EvalOptions((Path(),)), EvalOptions((Path(),), protocol="fixed")


class Recorder:
    """Keeps what it is given; its figure is the number of pictures."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Pixels, Pixels]] = []

    def add(self, sr: Pixels, hr: Pixels) -> None:
        self.pairs.append((sr, hr))

    def take(self) -> float:
        return float(len(self.pairs))


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[list[dict[str, object]], list[str]]:
    """Return the results as JSON gives them, and the lines on standard error."""
    assert main([*map(str, arguments), "--threads", "1", "--json", "-"]) == 0
    found = capsys.readouterr()
    results: list[dict[str, object]] = json.loads(found.out)["results"]
    return results, found.err.splitlines()


def number(value: object) -> float:
    assert isinstance(value, float)
    return value


def bicubic_rgb(path: Path, scale: int, *, whole: bool = False) -> tuple[Pixels, Pixels]:
    """Return (sr, hr) of bicubic in RGB, shaved: written out here without luma and chroma; ``whole``: of rounded samples."""
    enlarged, hr = bicubic_pair(read_rgb_planes(path), scale)
    if whole:
        enlarged = imresize(np.clip(np.rint(imresize(hr, 1.0 / scale)), 0, 255), float(scale))
    inside = (slice(None), slice(scale, -scale), slice(scale, -scale))
    sr = np.clip(np.rint(enlarged), 0, 255)
    return tuple(np.moveaxis(planes[inside], 0, -1).astype(np.uint8) for planes in (sr, hr))  # type: ignore[return-value]


# What is compared


def test_pictures_are_compared_in_rgb_without_their_borders(data: Path) -> None:
    recorder, paths = Recorder(), sorted(data.iterdir())
    measure_folder(open_model("bicubic"), paths, 5, WHOLE, {"lpips": recorder})
    for path, (sr, hr) in zip(paths, recorder.pairs, strict=True):
        assert sr.shape == hr.shape == (85, 85, 3)  # 96 is cropped to 95
        assert sr.dtype == hr.dtype == np.uint8
        assert np.array_equal(hr, read_rgb(path)[5:90, 5:90])


def test_luma_and_chroma_put_together_are_the_picture(data: Path) -> None:
    recorder, paths = Recorder(), sorted(data.iterdir())
    measure_folder(open_model("bicubic"), paths, 3, WHOLE, {"lpips": recorder})
    for path, (sr, _) in zip(paths, recorder.pairs, strict=True):
        difference = np.abs(sr.astype(int) - bicubic_rgb(path, 3)[0])
        # luma of the original is rounded before it is shrunk: at most half a level, 1.16 times that in RGB, which may round on
        assert difference.max() <= 1 and difference.mean() < 0.3


def test_a_grey_picture_is_what_psnr_compares(tmp_path: Path, data: Path) -> None:
    Image.open(data / "grass.png").convert("L").save(tmp_path / "grey.png")
    luma = read_luma(tmp_path / "grey.png")
    sr, _ = enlarged_pair(open_model("bicubic").enlarge, luma, 2)
    made, hr = rgb_pair(sr, read_rgb(tmp_path / "grey.png"), 2, grey=True)
    for channel in range(3):
        assert np.array_equal(made[..., channel], levels(sr)[2:-2, 2:-2])
        assert np.array_equal(hr[..., channel], luma[2:-2, 2:-2])


def test_rgb_of_a_network_is_rounded_and_clipped(data: Path) -> None:
    original = read_rgb(data / "china.png")
    sr = np.full((3, 96, 96), 0.4994, np.float32)  # 127.35
    sr[1], sr[2] = -0.2, 1.3
    made, hr = rgb_pair(sr, original, 4, grey=False)
    assert made.shape == hr.shape == (88, 88, 3) and made.dtype == np.uint8
    assert np.array_equal(np.unique(made.reshape(-1, 3), axis=0), [[127, 0, 255]])


def test_an_rgb_network_is_compared_in_rgb(data: Path) -> None:
    card = tiny.card_of(tiny.zero_weights((2, 1)), (1, 3, 48, 48)).with_changes(color="rgb")
    recorder, paths = Recorder(), sorted(data.iterdir())
    measure_folder(Model("unchanged", card, lambda planes, _: planes), paths, 3, WHOLE, {"lpips": recorder})
    for path, pair in zip(paths, recorder.pairs, strict=True):
        assert all(np.array_equal(made, expected) for made, expected in zip(pair, bicubic_rgb(path, 3, whole=True), strict=True))


def test_the_fixed_protocol_is_compared_at_the_size_of_the_picture(data: Path, identity: Path) -> None:
    recorder, paths = Recorder(), sorted(data.iterdir())
    measure_folder(open_model(str(identity), threads=1), paths, 4, FIXED, {"lpips": recorder})
    for path, (sr, hr) in zip(paths, recorder.pairs, strict=True):
        assert np.array_equal(hr, read_rgb(path)[4:92, 4:92])
        assert 0.0 < np.abs(sr.astype(int) - bicubic_rgb(path, 4)[0]).mean() < 3.0  # 96 to 256 and back costs little


def test_the_network_runs_once_for_all_metrics(data: Path) -> None:
    calls = []

    def network(planes: Planes, _: int) -> Planes:
        calls.append(planes.shape)
        return planes

    paths = sorted(data.iterdir())
    bicubic = Model("counted", None, network)
    plain = measure_folder(bicubic, paths, 2, WHOLE, {})
    assert measure_folder(bicubic, paths, 2, WHOLE, {"lpips": Recorder(), "fid": Recorder()}) == plain
    assert len(calls) == 2 * len(paths)


# LPIPS


def alexnet() -> torch.nn.Sequential:
    """Return convolutions of AlexNet's shape (torchvision's ``alexnet().features``) with random weights."""
    import torch
    from torch.nn import Conv2d, MaxPool2d, ReLU

    torch.manual_seed(3)
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
    layers: list[torch.nn.Module] = []
    for index, (n_in, n_out, side, stride, padding) in enumerate(shapes):
        layers += [Conv2d(n_in, n_out, side, stride, padding), ReLU()]
        layers += [MaxPool2d(3, 2)] if index in (0, 1, 4) else []
    return torch.nn.Sequential(*layers)


class Vision(ModuleType):
    """Stands for torchvision: its AlexNet takes the weights that lie in torch's cache."""

    def __init__(self, address: str) -> None:
        super().__init__("torchvision")
        default = SimpleNamespace(url=address)

        def build(weights: SimpleNamespace) -> SimpleNamespace:
            import torch

            assert weights is default
            features = alexnet()
            features.load_state_dict(torch.hub.load_state_dict_from_url(weights.url, check_hash=True))
            return SimpleNamespace(features=features)

        self.models = SimpleNamespace(AlexNet_Weights=SimpleNamespace(DEFAULT=default), alexnet=build)


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of AlexNet in torch's cache, and a torchvision that knows them."""
    torch = pytest.importorskip("torch")
    lpips = pytest.importorskip("torchmetrics.image.lpip")
    functional = pytest.importorskip("torchmetrics.functional.image.lpips")
    home = tmp_path_factory.mktemp("torch")
    monkeypatch.setenv("TORCH_HOME", str(home))
    content = io.BytesIO()
    torch.save(alexnet().state_dict(), content)
    path = home / "hub" / "checkpoints" / f"alexnet-owt-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.getvalue())
    monkeypatch.setitem(perceptual.LPIPS_WEIGHTS, "alex", f"https://nowhere.invalid/{path.name}")
    monkeypatch.setitem(sys.modules, "torchvision", Vision(perceptual.LPIPS_WEIGHTS["alex"]))
    for module in (lpips, functional):
        monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)
    return path


def lpips_of(pairs: list[tuple[Pixels, Pixels]]) -> float:
    """Return the mean LPIPS of pairs, by torchmetrics' network on pictures in [-1, 1]."""
    import torch
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    network = _NoTrainLpips(net="alex")
    found = []
    for pair in pairs:
        a, b = (torch.from_numpy(p.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1.0) for p in pair)
        found.append(float(network(a, b)))
    return float(np.mean(found))


def test_lpips_is_the_mean_over_pictures(capsys: pytest.CaptureFixture[str], vision: Path, identity: Path, data: Path) -> None:
    recorder = Recorder()
    measure_folder(open_model("bicubic"), sorted(data.iterdir()), 2, WHOLE, {"lpips": recorder})
    found, lines = evaluated(capsys, "bicubic", identity, "--data", data, "--metrics", "lpips")
    assert lines == []
    assert [entry["lpips_net"] for entry in found] == ["alex", "alex"] and [entry["fid"] for entry in found] == [None, None]
    expected = lpips_of(recorder.pairs)
    assert expected > 1e-4
    for entry in found:  # the second model begins anew; an identity after bicubic is bicubic, up to rounding of single pixels
        assert entry["lpips"] == pytest.approx(expected, rel=1e-3)


def test_the_table_names_the_network_of_lpips(capsys: pytest.CaptureFixture[str], vision: Path, data: Path) -> None:
    assert main(["bicubic", "--data", str(data), "--metrics", "lpips", "psnr", "--threads", "1"]) == 0
    _, heading, _, row = capsys.readouterr().out.splitlines()
    assert heading.split()[5:] == ["LPIPS", "alex", "PSNR", "dB"]
    assert 0.0 < float(row.split()[5]) < 1.0


def test_lost_colour_is_seen_by_lpips_and_not_by_psnr(capsys: pytest.CaptureFixture[str], vision: Path, tmp_path: Path) -> None:
    which = np.random.default_rng(0).integers(0, 2, (64, 64))
    Image.fromarray(np.array(EQUAL_LUMA, np.uint8)[which]).save(tmp_path / "colours.png")
    assert np.ptp(read_luma(tmp_path / "colours.png")) == 0
    found, _ = evaluated(capsys, "bicubic", "--data", tmp_path, "--metrics", "psnr", "lpips")
    assert found[0]["psnr_db"] == 100.0  # equal luma
    assert number(found[0]["lpips"]) > 1e-3


def test_a_picture_lpips_cannot_take_is_named(capsys: pytest.CaptureFixture[str], vision: Path, tmp_path: Path) -> None:
    Image.effect_noise((90, 34), 40).save(tmp_path / "low.png")
    assert main(["bicubic", "--data", str(tmp_path), "--metrics", "lpips"]) == 2
    assert "low.png: too small to measure at x2 (LPIPS needs at least 31x31 pixels, 30x86 are left)" in capsys.readouterr().err


def test_weights_that_cannot_be_had_leave_lpips_out(
    capsys: pytest.CaptureFixture[str], vision: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision.unlink()
    monkeypatch.setattr("sr_deploy.public_files.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no route to host")))
    found, lines = evaluated(capsys, "bicubic", "--data", data, "--metrics", "psnr", "lpips")
    assert found[0]["lpips"] is None and number(found[0]["psnr_db"]) > 20.0
    assert lines == [
        f"sr-eval: warning: LPIPS is left out: {vision.name} cannot be downloaded (no route to host); "
        f"fetch https://nowhere.invalid/{vision.name} and put it into {vision.parent}"
    ]


def test_weights_of_another_network_leave_lpips_out(
    capsys: pytest.CaptureFixture[str], vision: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: {"weight": torch.zeros(1)})
    _, lines = evaluated(capsys, "bicubic", "--data", data, "--metrics", "lpips")
    assert len(lines) == 1 and "LPIPS is left out: its network does not load (Error(s) in loading state_dict" in lines[0]


# FID


def features() -> torch.nn.Module:
    """Return a small feature extractor: means and spreads of the channels, from uint8 (n, 3, h, w) to float32 (n, 6)."""
    import torch

    class Features(torch.nn.Module):
        num_features = 6

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            assert pictures.dtype == torch.uint8
            values = pictures.float().flatten(2)
            return torch.cat([values.mean(2), values.std(2)], 1)

    return Features()


def fid_of(pairs: list[tuple[Pixels, Pixels]]) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al., equation 6) of the same features."""

    def statistics(pictures: list[Pixels]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = [p.reshape(-1, 3).astype(np.float64) for p in pictures]
        rows = np.array([np.concatenate([v.mean(0), v.std(0, ddof=1)]) for v in values])
        return rows.mean(0), np.cov(rows, rowvar=False)

    (m1, c1), (m2, c2) = statistics([sr for sr, _ in pairs]), statistics([hr for _, hr in pairs])
    root = np.sqrt(np.clip(np.linalg.eigvals(c1 @ c2).real, 0.0, None)).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2.0 * root)


@pytest.fixture
def fid(monkeypatch: pytest.MonkeyPatch) -> None:
    """FID of torchmetrics on a small feature extractor."""
    module = pytest.importorskip("torchmetrics.image.fid")
    monkeypatch.setattr(perceptual, "open_fid", lambda: Fid(module.FrechetInceptionDistance(feature=features())))


@pytest.fixture
def many(tmp_path: Path, pictures: Path) -> Path:
    """A folder of twelve different 48x48 parts of a photograph: more pictures than features."""
    with Image.open(pictures / "coffee.png") as image:
        for n in range(12):
            left, top = 90 + 40 * (n % 4), 60 + 70 * (n // 4)
            image.convert("RGB").crop((left, top, left + 48, top + 48)).save(tmp_path / f"{n:02}.png")
    return tmp_path


def test_fid_is_the_distance_of_all_results_from_all_originals(capsys: pytest.CaptureFixture[str], fid: None, many: Path) -> None:
    recorder = Recorder()
    measure_folder(open_model("bicubic"), sorted(many.iterdir()), 4, WHOLE, {"fid": recorder})
    found, lines = evaluated(capsys, "bicubic", "bicubic", "--data", many, "--scale", "4", "--metrics", "fid", "psnr")
    expected = fid_of(recorder.pairs)
    assert expected > 1.0
    # torchmetrics returns float32, and features are float32 here and float64 above
    assert [entry["fid"] for entry in found] == [pytest.approx(expected, rel=1e-3)] * 2
    assert len(lines) == 1
    assert "FID of 12 pictures is biased" in lines[0] and "Heusel et al., NIPS 2017" in lines[0]


def test_results_that_equal_their_originals_have_no_distance(
    capsys: pytest.CaptureFixture[str], fid: None, tmp_path: Path
) -> None:
    for level in (20, 90, 200):
        Image.new("RGB", (48, 48), (level, level, level)).save(tmp_path / f"{level}.png")
    found, _ = evaluated(capsys, "bicubic", "--data", tmp_path, "--metrics", "fid")
    assert math.isclose(number(found[0]["fid"]), 0.0, abs_tol=1e-2)  # of variances of about 8000


def test_fid_of_one_picture_is_left_out(capsys: pytest.CaptureFixture[str], fid: None, flat_picture: Path, data: Path) -> None:
    found, lines = evaluated(capsys, "bicubic", "--data", flat_picture, data, "--metrics", "fid")
    assert found[0]["fid"] is None and isinstance(found[1]["fid"], float)
    assert lines[0] == f"sr-eval: warning: {flat_picture}: FID is left out: it needs at least 2 pictures, here is 1"
    assert len(lines) == 2


def test_fid_takes_the_weights_of_torch_fidelity_without_antialiasing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = pytest.importorskip("torchmetrics.image.fid")
    seen: dict[str, object] = {}

    def inception(**given: object) -> torch.nn.Module:
        seen.update(given)
        return features()

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    weights = tmp_path / "hub" / "checkpoints" / "inception.pth"
    weights.write_bytes(b"of the test")
    monkeypatch.setattr(perceptual, "FID_WEIGHTS", "https://nowhere.invalid/inception.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("torchvision", "torch_fidelity"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(module, "_TORCH_FIDELITY_AVAILABLE", True)
    monkeypatch.setattr(module, "NoTrainInceptionV3", inception)
    assert list(perceptual.open_metrics(["psnr", "fid"])) == ["fid"]
    assert seen["feature_extractor_weights_path"] == str(weights)
    assert (seen["antialias"], seen["features_list"]) == (False, ["2048"])
