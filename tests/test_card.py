from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sr_deploy.card import BLANK, FORMAT, ModelCard, card_from_json, check_seal, seal
from sr_deploy.errors import InputError

CARD = ModelCard(
    arch="vdsr",
    widths=(8, 8, 1),
    scales=(2, 3, 4),
    default_scale=2,
    halo=3,
    precision="int8",
    layers={"conv1": "fp32", "conv2": "int8"},
    input_shape=(1, 1, 256, 256),
    output_shape=(1, 1, 256, 256),
    macs=47185920,
    opset=17,
    recipe={"train.lr": "0.1"},
)


def sealed() -> tuple[bytes, ModelCard]:
    content = seal(b"\x00\x01 before " + CARD.to_json().encode() + b" after \xff\xfe", source="x")
    start = content.index(b"{")
    return content, card_from_json(content[start : content.rindex(b"}") + 1].decode(), source="x")


def test_a_batch_is_in_the_shapes_and_the_multiplications() -> None:
    card = ModelCard("vdsr", (1,), (2,), 2, input_shape=(2, 1, 8, 8), output_shape=(2, 1, 16, 16), macs=10, digest="sha256:1")
    found = card.with_batch(6)
    assert (found.input_shape, found.output_shape, found.macs) == ((6, 1, 8, 8), (6, 1, 16, 16), 30)
    assert found.digest == BLANK
    with pytest.raises(ValueError, match="without shapes"):
        ModelCard("vdsr", (1,), (2,), 2).with_batch(2)


def test_json_round_trip() -> None:
    assert card_from_json(CARD.to_json(), source="x") == CARD


def test_json_is_one_line_with_sorted_keys() -> None:
    text = CARD.to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_card_without_optional_facts_round_trips() -> None:
    card = ModelCard(arch="vdsr", widths=(8, 1), scales=(2,), default_scale=2)
    assert card_from_json(card.to_json(), source="x") == card


def test_changes_unseal() -> None:
    _, card = sealed()
    assert card.digest != BLANK
    changed = card.with_changes(halo=9)
    assert (changed.halo, changed.digest) == (9, BLANK)
    assert card.halo == 3


def test_unknown_fields_are_ignored() -> None:
    text = json.dumps({**json.loads(CARD.to_json()), "flavour": "salted"})
    assert card_from_json(text, source="x") == CARD


def test_newer_format_is_refused() -> None:
    text = replace(CARD, format=FORMAT + 1).to_json()
    with pytest.raises(InputError, match=rf"^m\.onnx: its model card has format {FORMAT + 1}, this version reads up to {FORMAT}"):
        card_from_json(text, source="m.onnx")


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", '"card"', "{}", '{"format": 1}', '{"format": "one"}']
    + [
        json.dumps({**json.loads(CARD.to_json()), **change})
        for change in ({"widths": 8}, {"widths": ["a"]}, {"scales": [None]}, {"input_shape": [1, 1, "x", 2]}, {"format": None})
    ],
)
def test_damaged_card_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^m\.onnx: its model card is damaged .*; export the model again$"):
        card_from_json(text, source="m.onnx")


@pytest.mark.parametrize("name", ["arch", "widths", "scales", "default_scale"])
def test_missing_fact_is_refused_by_name(name: str) -> None:
    values = json.loads(CARD.to_json())
    del values[name]
    with pytest.raises(InputError, match=f"damaged .*{name}"):
        card_from_json(json.dumps(values), source="x")


def test_seal_keeps_the_length_and_passes_its_check() -> None:
    content, card = sealed()
    assert len(content) == len(b"\x00\x01 before " + CARD.to_json().encode() + b" after \xff\xfe")
    check_seal(content, card.digest, source="x")


def test_seal_depends_on_all_bytes_only() -> None:
    text = CARD.to_json().encode()
    assert seal(text + b"a", source="x") == seal(text + b"a", source="y")
    assert seal(text + b"a", source="x")[:-1] != seal(text + b"b", source="x")[:-1]


def test_a_flipped_byte_anywhere_is_noticed() -> None:
    content, card = sealed()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x20  # also turns a hexadecimal letter into its capital
        with pytest.raises(InputError, match="changed after it was made"):
            check_seal(bytes(changed), card.digest, source="x")


def test_lost_and_added_bytes_are_noticed() -> None:
    content, card = sealed()
    for changed in (content[:-1], content + b"\x00", b"\x00" + content):
        with pytest.raises(InputError, match=r"^m\.onnx: changed after it was made \(digest \w{12}, its card says \w{12}\)"):
            check_seal(changed, card.digest, source="m.onnx")


def test_unsealed_file_is_refused() -> None:
    with pytest.raises(InputError, match="its card says 000000000000"):
        check_seal(CARD.to_json().encode(), CARD.digest, source="x")


@pytest.mark.parametrize("count", [0, 2])
def test_only_one_unsealed_card_can_be_sealed(count: int) -> None:
    with pytest.raises(ValueError, match=f"holds {count} unsealed cards, needs exactly 1"):
        seal(CARD.to_json().encode() * count, source="x")
