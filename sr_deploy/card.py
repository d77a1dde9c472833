"""The model card: what a checkpoint, graph or plan says about itself.

It is one JSON object under the key ``sr_deploy``: in the header of a ``.safetensors`` checkpoint, in the
``metadata_props`` of an ``.onnx`` graph, in ``NAME.plan.json`` beside a plan. Its ``digest`` seals the whole file: the
SHA-256 of the file's bytes with the 64 digits of the digest itself read as zeros. So a file changed after it was made
is recognised without a second file, and a card holds neither times nor paths, so that equal inputs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError

Precision = Literal["fp32", "fp16", "int8"]
Shape = tuple[int, int, int, int]

KEY = "sr_deploy"
FORMAT = 1
BLANK = "sha256:" + "0" * 64


@dataclass(frozen=True)
class ModelCard:
    """Facts about one model file; ``None`` where a fact does not apply to that kind of file."""

    arch: str
    widths: tuple[int, ...]  # output channels of each convolution, in order
    scales: tuple[int, ...]  # factors the network was trained for
    default_scale: int
    config: dict[str, float] = field(default_factory=dict)  # of the architecture, what widths do not tell
    color: Literal["y", "rgb"] = "y"
    upscale: Upscale = "before"  # where the enlargement happens
    halo: int = 0  # input pixels around an output pixel that influence it
    precision: Precision = "fp32"
    layers: dict[str, Precision] = field(default_factory=dict)  # convolution -> precision
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    macs: int | None = None  # multiplications of one run at input_shape
    opset: int | None = None
    calibrated_scale: int | None = None
    calibration: str | None = None  # method
    refinements: tuple[str, ...] = ()  # of the calibration: "refined", "bias corrected"
    thresholds_digest: str | None = None
    guard: dict[str, object] = field(default_factory=dict)  # what the accuracy guard allowed, measured and gave back
    thresholds: dict[str, float] = field(
        default_factory=dict
    )  # of a checkpoint, learned; of an int8 graph, what it was made with
    keep: tuple[str, ...] = ()  # convolutions that were in float when they were learned
    parent_digest: str | None = None
    recipe: dict[str, str] = field(default_factory=dict)  # how the weights were made
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    digest: str = BLANK

    def to_json(self) -> str:
        """Return the card as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def with_batch(self, batch: int) -> ModelCard:
        """Return a copy whose shapes hold ``batch`` tiles, unsealed; the multiplications grow with them."""
        if self.input_shape is None or self.output_shape is None:
            raise ValueError("a card without shapes has no batch")
        shapes = {"input_shape": (batch, *self.input_shape[1:]), "output_shape": (batch, *self.output_shape[1:])}
        macs = None if self.macs is None else self.macs * batch // self.input_shape[0]
        return self.with_changes(**shapes, macs=macs)

    def with_changes(self, **changes: object) -> ModelCard:
        """Return a copy with ``changes``, unsealed."""
        return replace(self, **{"digest": BLANK, **changes})  # type: ignore[arg-type]


def card_from_json(text: str, *, source: str) -> ModelCard:
    """Return the card written as ``text``; ``source`` names the file in messages.

    Raises:
        InputError: not a card, or one of a newer format.
    """
    try:
        values = json.loads(text)
        if values["format"] > FORMAT:
            raise InputError(
                f"{source}: its model card has format {values['format']}, this version reads up to {FORMAT}; upgrade sr-deploy"
            )
        known = {f.name for f in fields(ModelCard)}
        for name in ("widths", "scales", "input_shape", "output_shape"):
            if values.get(name) is not None:
                values[name] = tuple(int(v) for v in values[name])
        values["refinements"] = tuple(str(v) for v in values.get("refinements", ()))
        values["keep"] = tuple(str(name) for name in values.get("keep", ()))
        for name, value in values.get("thresholds", {}).items():
            if not 0.0 < value < math.inf:
                raise ValueError(f"threshold {value} of {name}")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", values["digest"]):
            raise ValueError(f"digest {values['digest']!r}")
        return ModelCard(**{name: value for name, value in values.items() if name in known})
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as err:
        raise InputError(f"{source}: its model card is damaged ({err}); export the model again") from err


def seal(content: bytes, *, source: str) -> bytes:
    """Return ``content``, which holds one unsealed card, with the digest filled in."""
    blank = BLANK.encode()
    if content.count(blank) != 1:
        raise ValueError(f"{source}: holds {content.count(blank)} unsealed cards, needs exactly 1")
    return content.replace(blank, b"sha256:" + hashlib.sha256(content).hexdigest().encode())


def check_seal(content: bytes, digest: str, *, source: str) -> None:
    """Check that ``content`` is what was sealed with ``digest``.

    Raises:
        InputError: the file was changed after it was made.
    """
    blanked = content.replace(digest.encode(), BLANK.encode(), 1)
    found = "sha256:" + hashlib.sha256(blanked).hexdigest()
    if found != digest:
        raise InputError(
            f"{source}: changed after it was made (digest {found[7:19]}, its card says {digest[7:19]}); make it again"
        )


def check_scale(card: ModelCard, scale: int | None, *, source: str, option: str = "--scale") -> int:
    """Return the factor to use: ``scale``, or the card's default; ``option`` is what chooses one.

    Raises:
        InputError: the model does not serve ``scale``.
    """
    chosen = card.default_scale if scale is None else scale
    allowed = (1, *card.scales) if card.upscale == "before" else card.scales
    if chosen not in allowed:
        raise InputError(f"{source}: serves scales {', '.join(map(str, allowed))}, not {chosen}; choose one with {option}")
    return chosen
