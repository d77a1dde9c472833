"""Who teaches a pruned network and what, checked before anything is pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import ModelCard
from sr_deploy.compress.options import FEATURES, PruneOptions
from sr_deploy.compress.pruning.sensitivity import batches_from
from sr_deploy.compress.teaching.distill import Distilling, What, units_of
from sr_deploy.compress.teaching.features import Survivors, layers_of
from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.losses.content import Content
from sr_deploy.train.losses.expression import ADVERSARIAL, weight_of
from sr_deploy.train.networks.network import Network
from sr_deploy.train.weights import checkpoint

WEIGHT = 0.5  # of the teacher where none is given


@dataclass(frozen=True)
class Teaching:
    """A teacher and what is learnt from it."""

    teacher: Network
    what: What
    weight: float
    layers: tuple[str, ...]  # convolutions whose input is compared
    digest: str  # of the teacher's file

    def stepper(self, loss: str, content: Content, left: Survivors, source: Callable[[], PatchSource]) -> Distilling:
        """Return what builds the training step of a network with the channels ``left``.

        Args:
            loss: the expression that is minimised.
            content: where its feature terms come from.
            left: what is left of the dense network.
            source: opens what is trained on, for the unit of every layer.
        """
        kept = left.read_by(self.layers)
        batches = batches_from(source(), seed=0) if kept else []
        units = units_of(self.teacher, kept, batches, content.objective(loss)) if kept else {}
        return Distilling(self.teacher, self.what, self.weight, content, kept, units)

    @property
    def facts(self) -> Mapping[str, str]:
        """What the card says of it."""
        facts = {"prune.distill": self.what, "prune.distill_weight": f"{self.weight:g}", "prune.teacher": self.digest}
        return {**facts, "prune.distill_layers": " ".join(self.layers)} if self.layers else facts


def teaching_of(options: PruneOptions, network: Network, card: ModelCard, *, loss: str, data: DataConfig) -> Teaching | None:
    """Return what the options say of a teacher, by default the dense ``network`` itself; ``None``: there is none.

    Raises:
        InputError: the loss has a GAN term, the teacher does not fit, or a layer is none.
    """
    what: What = options.distill
    if what == "none":
        return None
    if weight_of(loss, ADVERSARIAL):
        raise InputError(
            f"--distill {what}: not with --loss {loss!r}: a teacher's picture and a discriminator ask for different ones; "
            "leave the GAN term or the teacher out"
        )
    weight = WEIGHT if options.distill_weight is None else options.distill_weight
    layers = layers_of(network, options.distill_layers or ()) if what in FEATURES else ()
    if options.teacher is None:
        return Teaching(network, what, weight, layers, card.digest)
    teacher, digest = fitting_teacher(options.teacher, card, data)
    return Teaching(teacher, what, weight, layers, digest)


def fitting_teacher(path: Path, card: ModelCard, data: DataConfig) -> tuple[Network, str]:
    """Return the network in a file, as it is called in training on ``data``, and the file's digest.

    Raises:
        InputError: its result is not comparable with that of the network that ``card`` tells of.
    """
    teacher, found = checkpoint.load(path)
    teacher = teacher.folded()
    for what, theirs, ours in (("colour", found.color, card.color), ("enlargement", found.upscale, card.upscale)):
        if theirs != ours:
            raise InputError(f"--teacher {path}: its {what} is {theirs!r}, that of the pruned network {ours!r}; choose another")
    missing = [scale for scale in data.scales if scale not in found.scales]
    if missing or (data.one_scale and len(teacher.at_each_scale()) == 1):
        served, wanted = (" ".join(map(str, scales)) for scales in (found.scales, data.scales))
        raise InputError(f"--teacher {path}: serves scale {served}, fine-tuning wants {wanted}; choose another, or name --scale")
    return (teacher if data.one_scale else teacher.at_scale(data.scales[0])), found.digest
