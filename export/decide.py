"""The accuracy guard of one export: which layers stay out of int8, searched on tiles, held against a budget on whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnxruntime as ort

from sr_deploy.budgets import BUDGETS, Budget, budget_for, read_budgets
from sr_deploy.comparison import Losses
from sr_deploy.errors import CheckError, InputError
from sr_deploy.export.accuracy.decision_file import question_of, stored_decision, write_decision
from sr_deploy.export.accuracy.guard import Choice, Decision, Drops, Search, Step, Verified, int8_share, worst
from sr_deploy.export.accuracy.selection import SelectionSet, drops_db, psnr_db
from sr_deploy.export.accuracy.verification import WholePictures, broken, shares, shares_alone
from sr_deploy.export.choice import Int8, first_choice, selection
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.reading import convolution_nodes
from sr_deploy.export.graphs.suffix import at_shape
from sr_deploy.export.job import Export
from sr_deploy.notes import LINES

MOVES = {"give back": "to float", "take back": "back to int8"}  # a step of the guard, as it is printed


def decide(int8: Int8) -> Decision:
    """Return the guard's decision: that of an equal export, or a new one; it is written.

    Raises:
        CheckError: no choice fits.
    """
    export, start, name = int8.export, first_choice(int8.export), f"{int8.export.stem}_int8.guard.json"
    guard = Guard(int8, budgets_of(int8.export))
    question = question_of(
        start,
        graph=export.graph_digest,
        thresholds=int8.calibration.digest,
        pictures=guard.samples.digest,
        max_drop_db=guard.max_drop_db,
    )
    found = stored_decision([place / name for place in export.folders], question)
    if found is not None and (found[0].verified is None or found[0].verified.budgets == guard.limits):
        decision, source = found
        LINES.info(f"{source}: reused, decided for the same graph, thresholds and pictures; drop {drops_text(decision.drop_db)}")
        if decision.verified is not None:
            return decision
    else:
        decision = guard.search().run(start)
    try:
        decision = guard.verify(decision)
    except CheckError as err:
        delete(export.options.output / name)
        engine = export.options.output / f"{export.stem}_int8.onnx"
        gone = f"; {engine} of an earlier export was removed" if delete(engine) else ""
        raise CheckError(f"{export.stem}_int8: {err}{gone}") from err
    write_decision(export.options.output / name, question, decision)
    return decision


def budgets_of(export: Export) -> dict[int, Budget]:
    """Return what may be lost at each scale: ``--max-drop`` and the other limits of ``--budget``, or of the project's budgets.

    Who gives no budget and allows a larger drop than the project does is held to nothing else.

    Raises:
        InputError: neither option limits the drop.
    """
    options, stem = export.options, f"{export.stem}_int8"
    source, scales = options.budget or BUDGETS, export.tiles.cut.scales
    tables = read_budgets(source)
    found = {scale: budget_for(tables, stem, "int8", scale) for scale in scales}
    if options.max_drop_db is None:
        missing = [scale for scale in scales if found[scale].max_drop_db is None]
        if missing:
            raise InputError(f"{source}: has no max_drop_db for {stem} at x{missing[0]}; add it, or give --max-drop")
        return found
    return {scale: with_drop(budget, options.max_drop_db, given=options.budget is not None) for scale, budget in found.items()}


def with_drop(budget: Budget, max_drop_db: float, *, given: bool) -> Budget:
    """Return a budget with this mean drop; of one that was not ``given`` and allows less, nothing else is kept."""
    if given or (budget.max_drop_db is not None and max_drop_db <= budget.max_drop_db):
        return replace(budget, max_drop_db=max_drop_db)
    return Budget(max_drop_db=max_drop_db)


@dataclass(frozen=True, eq=False)
class Guard:
    """Measures choices of layers, on tiles and on whole pictures."""

    int8: Int8
    budgets: Mapping[int, Budget]  # by scale

    @property
    def max_drop_db(self) -> float:
        """The mean drop that the search allows on tiles, at every scale: the largest of the budgets."""
        return max(budget.max_drop_db or 0.0 for budget in self.budgets.values())

    @property
    def limits(self) -> dict[int, dict[str, float]]:
        """The budgets as they are written."""
        return {scale: budget.limits() for scale, budget in self.budgets.items()}

    @cached_property
    def samples(self) -> SelectionSet:
        """The tiles."""
        return selection(self.int8.export, (1, *self.int8.export.settings.shape[1:]))

    @cached_property
    def reference(self) -> ort.InferenceSession:
        """The fp32 graph for one tile."""
        export = self.int8.export
        return export.sessions.kept(at_shape(export.model, self.samples.cut.shape))

    def session(self, choice: Choice) -> ort.InferenceSession:
        """Return the int8 graph of a choice for one tile."""
        return self.int8.export.sessions.open(at_shape(self.int8.graph(choice), self.samples.cut.shape), exact=True)

    def search(self) -> Search:
        """Return the search by the mean drop on tiles."""
        reference = psnr_db(self.reference, self.samples)

        def measure(choice: Choice) -> Drops:
            return drops_db(psnr_db(self.session(choice), self.samples), reference)

        def costs() -> dict[str, Drops]:
            return {loss.name: loss.drop_db for loss in self.int8.losses if loss.name in self.layers}

        return Search(
            measure, costs, self.int8.export.macs, self.max_drop_db, lambda step: self.tell(step, "tiles: drop", drops_text)
        )

    def verify(self, decision: Decision) -> Decision:
        """Return a decision that keeps every limit on whole pictures: the same one, or with more layers in float.

        Raises:
            CheckError: the decision does not keep the drop on tiles, or none keeps the limits.
        """
        export = self.int8.export
        if not decision.fits:
            raise CheckError(nothing_fits(export, decision))
        least = 4 * max(self.samples.scales)
        digests = [digest for digest, size in self.samples.sizes.items() if min(size) > least]
        pictures = WholePictures(self.samples.photographs, digests, export.card, self.samples.scales)
        seen: dict[Choice, dict[int, Losses]] = {}

        def measure(choice: Choice) -> Drops:
            seen[choice] = pictures.losses(self.session(choice), self.reference)
            return shares(seen[choice], self.budgets)

        def costs() -> dict[str, Drops]:
            return {loss.name: shares_alone(loss, self.budgets) for loss in self.int8.losses if loss.name in self.layers}

        search = Search(measure, costs, export.macs, 1.0, lambda step: self.tell(step, "whole pictures: used", shares_text))
        found = search.run(decision.choice)
        if not found.fits:
            lines = broken(seen[found.choice], self.budgets)
            raise CheckError(f"no choice of layers keeps the budget on whole pictures; the best: {'; '.join(lines)}")
        if found.choice != decision.choice:
            decision = replace(decision, choice=found.choice, drop_db=self.search().measure(found.choice))
        return replace(decision, verified=Verified(self.limits, {s: f.figures() for s, f in seen[found.choice].items()}))

    def tell(self, step: Step, measured: str, text: Callable[[Drops], str]) -> None:
        """Report one step of a search."""
        what = "" if step.layer is None else f"{step.layer} {MOVES[step.action]}, "
        share = f"{100 * step.int8_share:.1f} % in int8"
        LINES.info(f"{self.int8.export.stem}: guard: {what}{measured} {text(step.drop_db)}, {share}")

    @property
    def layers(self) -> set[str]:
        """The convolutions that can be put back to float: a float one that reads the picture itself has no int8 input to lose."""
        export = self.int8.export
        readers = {node.name for node in convolution_nodes(export.model) if node.input[0] == INPUT}
        return set(export.macs) - (first_choice(export).kept & readers)


def nothing_fits(export: Export, decision: Decision) -> str:
    """Return the line about the best choice that was found where none keeps the drop."""
    best, share = decision.choice, f"{100 * int8_share(decision.choice, export.macs):.0f} %"
    return (
        f"no choice of layers keeps the drop within {decision.max_drop_db:g} dB; the best was "
        f"{worst(decision.drop_db):.3f} dB ({drops_text(decision.drop_db)}) with {share} of the multiplications in "
        f"int8 and {', '.join(sorted(best.given_back)) or 'nothing'} kept in float for it; no int8 graph is written: "
        "raise --max-drop, calibrate on more photographs with --calib, or tune with sr-prune --qat"
    )


def delete(path: Path) -> bool:
    """Delete a file and return whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def drops_text(drops: Drops) -> str:
    """Return drops as text."""
    return " ".join(f"x{scale} {drop:.3f}" for scale, drop in drops.items()) + " dB"


def shares_text(shares: Drops) -> str:
    """Return used parts of a budget as text."""
    return " ".join(f"x{scale} {100 * share:.0f} %" for scale, share in shares.items()) + " of the budget"
