"""What layers and filters of a network are measured on, before some of them are removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sr_deploy.card import ModelCard
from sr_deploy.compress.pruning.criterion import activation_scores, taylor_scores
from sr_deploy.compress.pruning.masks import Scores
from sr_deploy.compress.pruning.sensitivity import batches_from, batches_of
from sr_deploy.degrade import Planes
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.network import Network

TAYLOR_BATCHES = 16  # that a filter's importance is averaged over
ACTIVATION_BATCHES = 4


@dataclass(frozen=True)
class Measured:
    """What layers and filters are measured on: patches of the training data, else parts of the validation pictures."""

    source: Callable[[], PatchSource] | None
    pictures: Sequence[Planes]
    card: ModelCard
    seed: int
    criterion: str

    def batches(self, network: Network, *, count: int = 1) -> list[MicroBatch]:
        """Return what ``network`` is measured on; ``count`` times as many patches."""
        if self.source is None:
            return batches_of(self.pictures, network, self.card)
        return [batch for number in range(count) for batch in batches_from(self.source(), seed=self.seed + number)]

    def scores(self, network: Network) -> Scores | None:
        """Return how much each filter matters; ``None``: its L1 norm says so."""
        if self.criterion == "l1":
            return None
        if self.criterion == "activation":
            return activation_scores(network, self.batches(network, count=ACTIVATION_BATCHES))
        return taylor_scores(network, self.batches(network, count=TAYLOR_BATCHES))
