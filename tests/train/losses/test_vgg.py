"""VGG19's feature maps as torchvision's network gives them, and what happens where its weights are missing."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from sr_deploy.errors import InputError, MachineError
from sr_deploy.train.losses.vgg import ContentLoss, downloaded_vgg, random_vgg, vgg_from

# torchvision's vgg19().features, configuration E: widths, and M for a pooling; it is a plain list of layers
E: list[int | str] = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"]


def reference() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for entry in E:
        if isinstance(entry, str):
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
            channels = entry
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Sequential]:
    """Return a file like torchvision's, its name holding its digest, and the layers it holds."""
    torch.manual_seed(0)
    layers = reference()
    state = OrderedDict((f"features.{name}", value) for name, value in layers.state_dict().items())
    state["classifier.6.bias"] = torch.zeros(1000)
    folder = tmp_path_factory.mktemp("vgg")
    torch.save(state, folder / "vgg19.pth")
    digest = hashlib.sha256((folder / "vgg19.pth").read_bytes()).hexdigest()
    return (folder / "vgg19.pth").rename(folder / f"vgg19-{digest[:8]}.pth"), layers.eval()


def test_maps_are_those_behind_the_activation_in_front_of_the_pooling(weights: tuple[Path, nn.Sequential]) -> None:
    path, layers = weights
    vgg, digest = vgg_from(path, ("VGG22", "VGG54"))
    assert digest.startswith("sha256:")
    x = torch.rand(2, 3, 32, 48)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        found, y = vgg(x), (x - mean) / std
        assert torch.allclose(found["VGG22"], layers[:9](y), atol=1e-5)  # conv 2_2 is layer 7, its ReLU layer 8
        assert torch.allclose(found["VGG54"], layers[:36](y), atol=1e-5)  # conv 5_4 is layer 34; layer 36 is the pooling


def test_luma_is_seen_as_the_grey_picture_it_is_the_luma_of() -> None:
    vgg = random_vgg(("VGG22",))
    grey = torch.rand(1, 1, 16, 16)
    luma = (16.0 + 219.0 * grey) / 255.0  # BT.601-7
    assert torch.allclose(vgg(luma)["VGG22"], vgg(grey.expand(-1, 3, -1, -1))["VGG22"], atol=1e-4)  # float32 sums


def test_only_what_is_needed_is_built() -> None:
    assert sum(p.numel() for p in random_vgg(("VGG22",)).parameters()) < 300_000
    assert sum(p.numel() for p in random_vgg(("VGG54",)).parameters()) == 20_024_384  # all of VGG19's convolutions


def test_random_weights_are_the_same_each_time() -> None:
    a, b = random_vgg(("VGG22",)), random_vgg(("VGG22",))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(random_vgg(("VGG22",), seed=1).parameters()))


@pytest.mark.parametrize("distance", ["mse", "l1"])
def test_the_content_loss_leads_towards_the_original(distance: str) -> None:
    loss = ContentLoss(random_vgg(("VGG22",)), distance=distance)  # type: ignore[arg-type]
    hr = torch.rand(1, 1, 16, 16)
    sr = torch.rand(1, 1, 16, 16).requires_grad_()
    first = loss(sr, hr)["VGG22"]
    first.backward()
    assert sr.grad is not None and all(p.grad is None for p in loss.parameters())
    with torch.no_grad():
        assert float(loss(sr - 1e-3 * sr.grad / sr.grad.norm(), hr)["VGG22"]) < float(first)
        assert float(loss(hr, hr)["VGG22"]) == 0.0


def test_another_files_digest_is_noticed(weights: tuple[Path, nn.Sequential], tmp_path: Path) -> None:
    (tmp_path / "vgg19-dcbb9e9d.pth").write_bytes(weights[0].read_bytes())
    with pytest.raises(InputError, match="its name says dcbb9e9d; get it again"):
        vgg_from(tmp_path / "vgg19-dcbb9e9d.pth", ("VGG54",))


@pytest.mark.parametrize("kind", ["other", "garbage", "pickle"])
def test_what_is_no_vgg_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pth"
    if kind == "garbage":
        path.write_bytes(b"not a file of torch")
    else:
        torch.save({"features.0.weight": torch.zeros(3)} if kind == "other" else nn.Linear(2, 2), path)
    with pytest.raises(InputError, match="not torchvision's VGG19"):
        vgg_from(path, ("VGG54",))
    with pytest.raises(InputError, match=r"No such file .*; get it from https"):
        vgg_from(tmp_path / "missing.pth", ("VGG54",))


def test_weights_that_cannot_be_had_are_one_line_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("sr_deploy.train.losses.vgg.ADDRESS", "http://127.0.0.1:9/vgg19-dcbb9e9d.pth")  # nobody listens there
    with pytest.raises(
        MachineError,
        match=r"VGG19: vgg19-dcbb9e9d.pth cannot be downloaded .*--vgg FILE, or choose --content pixel or random-vgg",
    ):
        downloaded_vgg()
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").iterdir())
