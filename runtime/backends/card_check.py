"""Whether a model card describes the graph it lies in: a wrong one would give wrong pictures without a word."""

from __future__ import annotations

from collections.abc import Sequence

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError

CHANNELS = {"y": 1, "rgb": 3}


def check_card(card: ModelCard, *, source: str) -> None:
    """Check that what a card says of an engine fits together.

    Raises:
        InputError: its shapes, channels, scales and halo contradict each other, or are of another kind than they should be.
    """
    try:
        _check(card, source)
    except (TypeError, ValueError, KeyError) as err:  # numbers that are texts, lists that are numbers
        raise _wrong(source, f"is damaged ({err})") from err


def _check(card: ModelCard, source: str) -> None:
    if not all(type(number) is int for number in (card.halo, card.default_scale, *card.scales)):
        raise _wrong(source, f"names halo {card.halo} and scales {card.scales}, {card.default_scale}, not whole numbers")
    shapes = card.input_shape, card.output_shape
    if any(shape is None or len(shape) != 4 or min(shape) < 1 for shape in shapes):
        raise _wrong(source, f"names the shapes {shapes[0]} and {shapes[1]}, not two of four positive numbers")
    assert card.input_shape is not None and card.output_shape is not None
    (n, c, h, w), (n_out, c_out, h_out, w_out) = card.input_shape, card.output_shape
    if (n, c) != (n_out, c_out) or c != CHANNELS[card.color]:
        raise _wrong(source, f"names the shapes {shapes[0]} and {shapes[1]} for a network of colour {card.color}")
    factor = h_out // h
    if (h * factor, w * factor) != (h_out, w_out) or factor < 1:
        raise _wrong(source, f"names an output of {h_out}x{w_out} pixels for an input of {h}x{w}")
    if card.upscale == "before" and factor != 1:
        raise _wrong(source, f"names an enlargement before the network, and a network that enlarges {factor} times")
    if card.upscale != "before" and card.scales != (factor,):
        raise _wrong(source, f"names scales {card.scales} for a network that enlarges {factor} times")
    if card.default_scale not in (1, *card.scales) or min(card.scales, default=0) < 1:
        raise _wrong(source, f"names scales {card.scales} with {card.default_scale} as the default")
    if card.halo < 0 or min(h, w) <= 2 * card.halo:
        raise InputError(
            f"{source}: tile {h}x{w} is not larger than twice the halo of {card.halo} pixels; export with --shape 1 1 256 256"
        )


def check_shapes(card: ModelCard, inputs: Sequence[object], outputs: Sequence[object], *, source: str) -> None:
    """Check that a graph has the one input and the one output of its card.

    Args:
        card: of the graph.
        inputs: the shape of each input, as the backend tells it.
        outputs: the shape of each output; names stand for what it does not know.
        source: names the file in messages.

    Raises:
        InputError: it has not.
    """
    for what, found, expected in (("input", inputs, card.input_shape), ("output", outputs, card.output_shape)):
        shape = found[0] if len(found) == 1 else None
        known = isinstance(shape, Sequence) and all(isinstance(side, int) for side in shape)
        if len(found) != 1 or (known and list(shape) != list(expected or ())):  # type: ignore[call-overload]
            raise _wrong(source, f"names an {what} of {expected}, the graph has {list(found)}")


def _wrong(source: str, what: str) -> InputError:
    return InputError(f"{source}: its model card {what}; export the model again")
