"""Pruning in rounds: each removes a part of what is to go and trains its share of the steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from sr_deploy.compress.pruning.masks import ConfigList
from sr_deploy.train.loop.recipe import Recipe


def steps_of(total: int, number: int, rounds: int) -> int:
    """Return the steps of round ``number``, counted from 1; those of all rounds add up to ``total``."""
    return total * number // rounds - total * (number - 1) // rounds


def recipe_of(recipe: Recipe, number: int, rounds: int) -> Recipe:
    """Return the recipe of one round: its share of the length, patches of its own, the learning rate's course from the start."""
    if rounds == 1:
        return recipe
    return dataclasses.replace(
        recipe,
        steps=None if recipe.steps is None else steps_of(recipe.steps, number, rounds),
        minutes=None if recipe.minutes is None else recipe.minutes / rounds,
        seed=(recipe.seed + number - 1) % 2**63,
    )


def stage(name: str, number: int, rounds: int) -> str:
    """Return how a stage of a round is called in the table."""
    return name if rounds == 1 else f"{name} {number} of {rounds}"


def round_facts(config_list: ConfigList, number: int, rounds: int) -> Mapping[str, str]:
    """Return what the card says of one round."""
    text = json.dumps(config_list)
    if rounds == 1:
        return {"prune.config_list": text}
    return {f"prune.round{number}.config_list": text, "prune.rounds": f"{number} of {rounds}"}
