"""The engines that come with sr-deploy: they are what the committed weights and decisions give, and are found by name."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from sr_deploy.card import KEY, ModelCard, card_from_json
from sr_deploy.errors import InputError, MachineError
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.engines.shipped import (
    FOLDER,
    INDEX,
    Measured,
    Shipped,
    choose,
    engine_path,
    has_photo_engine,
    shipped_engines,
)

PRETRAINED = Path(__file__).resolve().parents[3] / "train" / "pretrained"
ENGINES = shipped_engines()
HOW = Measured("pictures", "command", "protocol", "reference", "processor", {})


def shipped(name: str, psnr_db: dict[int, float], *, before: bool = False) -> Shipped:
    return Shipped(name, "0" * 64, 1000, min(psnr_db), before, psnr_db, psnr_db, HOW)


SOME = (
    shipped("edsr_pruned_int8", {2: 37.2}),
    shipped("edsr_x4_pruned_int8", {4: 30.7}),
    shipped("vdsr_pruned_int8", {2: 36.9, 3: 32.8, 4: 30.5}, before=True),
)

FAMILY = (
    *SOME,
    shipped("plain_l_photo_x2_int8", {2: 37.0}),
    shipped("plain_l_x2_int8", {2: 37.1}),
    shipped("plain_l_x4_qat_int8", {4: 31.0}),
    shipped("plain_m_x2_int8", {2: 36.8}),
    shipped("plain_xl_x2_int8", {2: 37.3}),
)


def checkpoint_card(path: Path) -> ModelCard:
    """Return the card in the header of a safetensors file, where safetensors is not installed."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return card_from_json(header["__metadata__"][KEY], source=path.name)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the folder of engines."""
    return Path(shutil.copytree(FOLDER, tmp_path / "engines"))


def test_every_engine_in_the_folder_is_listed() -> None:
    assert {engine.name for engine in ENGINES} == {path.stem for path in FOLDER.glob("*.onnx")} != set()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_a_shipped_engine_is_the_one_that_was_measured(engine: Shipped) -> None:
    card = read_card(engine.path())
    assert engine.path().stat().st_size == engine.bytes
    assert (engine.scales, engine.default_scale) == (card.scales, card.default_scale)
    assert engine.enlarges_before == (card.upscale == "before") and card.precision == "int8"
    assert engine.fp32_psnr_db.keys() == engine.psnr_db.keys()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_a_shipped_engine_is_made_from_the_committed_weights_thresholds_and_decision(engine: Shipped) -> None:
    card, network = read_card(engine.path()), engine.name.removesuffix("_int8")
    thresholds = json.loads((PRETRAINED / f"{engine.name}.thresholds.json").read_text("utf-8"))
    decision = json.loads((PRETRAINED / f"{engine.name}.guard.json").read_text("utf-8"))
    assert card.parent_digest == checkpoint_card(PRETRAINED / f"{network}.safetensors").digest
    assert card.thresholds_digest == thresholds["digest"] == decision["question"]["thresholds"]
    assert card.guard["given_back"] == decision["answer"]["given_back"]
    assert card.guard["max_drop_db"] == decision["question"]["max_drop_db"]
    kept = {*decision["question"]["kept"], *decision["answer"]["given_back"]}
    assert {name for name, precision in card.layers.items() if precision != "int8"} == kept


def test_no_shipped_engine_loses_more_on_set5_than_the_guard_allowed() -> None:
    for engine in ENGINES:
        allowed = float(str(read_card(engine.path()).guard["max_drop_db"]))
        assert all(engine.fp32_psnr_db[scale] - engine.psnr_db[scale] <= allowed for scale in engine.scales)


def test_the_documentation_shows_the_measured_figures(root: Path) -> None:
    shown = "".join(path.read_text("utf-8") for path in sorted((root / "docs").glob("*.md")))
    for engine in ENGINES:
        for scale in engine.scales:
            figures = f"{engine.psnr_db[scale]:.3f} | {engine.fp32_psnr_db[scale]:.3f} | {engine.bytes / 1000:.0f}"
            assert f"| `{engine.name}` | x{scale} | {figures} |" in shown


def test_an_engine_that_was_changed_is_named(copied: Path) -> None:
    content = bytearray((copied / "vdsr_pruned_qat_int8.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "vdsr_pruned_qat_int8.onnx").write_bytes(content)
    with pytest.raises(MachineError, match=r"vdsr_pruned_qat_int8\.onnx: an engine of sr-deploy is damaged \(SHA-256 .*install"):
        engine_path("vdsr", folder=copied)
    assert engine_path("edsr", 2, folder=copied).is_file()


def test_an_engine_that_is_missing_is_named(copied: Path) -> None:
    (copied / "vdsr_pruned_qat_int8.onnx").unlink()
    with pytest.raises(MachineError, match=r"vdsr_pruned_qat_int8\.onnx: an engine of sr-deploy cannot be read .*install"):
        engine_path("vdsr", folder=copied)


@pytest.mark.parametrize("content", ["", "[]", '{"engines": [{}]}', '{"engines": [1]}', None])
def test_a_damaged_index_is_named(copied: Path, content: str | None) -> None:
    (copied / INDEX).unlink()
    if content is not None:
        (copied / INDEX).write_text(content)
    with pytest.raises(MachineError, match=r"engines\.json: cannot be read .*; install sr-deploy again"):
        shipped_engines(copied)


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        (None, None, "edsr_pruned_int8"),
        (None, 1, "vdsr_pruned_int8"),
        (None, 2, "edsr_pruned_int8"),
        (None, 3, "vdsr_pruned_int8"),
        (None, 4, "edsr_x4_pruned_int8"),
        ("edsr", None, "edsr_pruned_int8"),
        ("edsr", 4, "edsr_x4_pruned_int8"),
        ("EDSR", 2, "edsr_pruned_int8"),
        ("edsr_x4", None, "edsr_x4_pruned_int8"),
        ("edsr_pruned_int8", None, "edsr_pruned_int8"),
        ("edsr_x4_pruned_int8.onnx", 4, "edsr_x4_pruned_int8"),
        ("vdsr", None, "vdsr_pruned_int8"),
        ("vdsr_pruned", 4, "vdsr_pruned_int8"),
    ],
)
def test_the_best_engine_of_that_name_at_that_scale_is_taken(name: str | None, scale: int | None, expected: str) -> None:
    assert choose(SOME, name, scale).name == expected


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        (None, None, "plain_l_x2_int8"),  # edsr and xl have more dB
        (None, 4, "plain_l_x4_qat_int8"),
        (None, 3, "vdsr_pruned_int8"),  # no plain_l serves it
        (None, 1, "vdsr_pruned_int8"),
        ("l", 4, "plain_l_x4_qat_int8"),
        ("plain", None, "plain_l_x2_int8"),
        ("plain_l", 2, "plain_l_x2_int8"),
        ("m", None, "plain_m_x2_int8"),
        ("XL", 2, "plain_xl_x2_int8"),
        ("photo", None, "plain_l_photo_x2_int8"),
        ("plain_l_photo", 2, "plain_l_photo_x2_int8"),
        ("plain_l_x4", None, "plain_l_x4_qat_int8"),
        ("edsr", None, "edsr_pruned_int8"),
    ],
)
def test_plain_l_is_the_default_and_its_family_has_short_names(name: str | None, scale: int | None, expected: str) -> None:
    assert choose(FAMILY, name, scale).name == expected


def test_a_short_name_at_a_scale_that_it_does_not_serve_says_what_it_serves() -> None:
    with pytest.raises(InputError, match=r"^photo at scale 4: plain_l_photo_x2_int8 serves x2, not x4"):
        choose(FAMILY, "photo", 4)


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A folder whose index lists the family; its files are not needed."""
    (tmp_path / INDEX).write_text(json.dumps({"engines": [asdict(engine) for engine in FAMILY]}))
    return tmp_path


def test_the_family_is_listed_first_and_the_default_at_its_head(family: Path) -> None:
    names = [engine.name for engine in shipped_engines(family)]
    assert names[:3] == ["plain_l_x2_int8", "plain_l_x4_qat_int8", "plain_l_photo_x2_int8"] and names[-1] == "vdsr_pruned_int8"


@pytest.mark.parametrize(
    ("engine", "scale", "expected"),
    [
        ("plain_l_x2_int8", 2, True),
        ("plain_m_x2_int8", 2, True),
        ("plain_l_x4_qat_int8", 4, False),  # no photo engine serves it
        ("plain_l_photo_x2_int8", 2, False),
        ("edsr_pruned_int8", 2, False),
    ],
)
def test_the_photo_engine_is_offered_in_place_of_one_trained_on_clean_pictures(
    family: Path, engine: str, scale: int, expected: bool
) -> None:
    assert has_photo_engine(family / f"{engine}.onnx", scale, folder=family) is expected
    assert not has_photo_engine(Path("elsewhere") / f"{engine}.onnx", scale, folder=family)


@pytest.mark.parametrize("name", ["", "eds", "edsr_", "pruned", "vdsr_pruned_int8.plan", "x.onnx", "_"])
def test_what_is_no_name_lists_the_names(name: str) -> None:
    names = re.escape("edsr_pruned_int8, edsr_x4_pruned_int8, vdsr_pruned_int8 (sr-infer --list)")
    with pytest.raises(InputError, match=rf"^{re.escape(name)}: no such file, and no shipped engine is called so; .*{names}$"):
        choose(SOME, name, None)


def test_a_scale_that_no_engine_of_that_name_serves_says_what_they_serve() -> None:
    with pytest.raises(
        InputError, match=r"^edsr at scale 3: edsr_pruned_int8 serves x2, edsr_x4_pruned_int8 serves x4, not x3; choose"
    ):
        choose(SOME, "edsr", 3)
    with pytest.raises(InputError, match=r"^scale 5: .*vdsr_pruned_int8 serves x2 x3 x4, not x5; choose another scale"):
        choose(SOME, None, 5)


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vdsr").mkdir()
    assert engine_path("vdsr").parent == FOLDER  # a folder is no file
    (tmp_path / "edsr").write_text("mine")
    assert engine_path("edsr") == Path("edsr")


@pytest.mark.parametrize("text", ["./vdsr", "build/vdsr_pruned_int8.onnx", "/vdsr"])
def test_what_holds_a_slash_is_never_a_name(text: str) -> None:
    assert engine_path(text) == Path(text)
