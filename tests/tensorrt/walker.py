"""Which names and arities of TensorRT a source file uses in a given release, and which of them that release lacks."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any

# In this project's TensorRT code a variable's or attribute's name says what it is.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "layer": "ILayer",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Walker:
    """Walks a module as one release would run it: branches that a version check rules out are not looked at."""

    def __init__(self, source: str, api: dict[str, Any], constants: dict[str, Any]) -> None:
        self.tree, self.api, self.constants = ast.parse(source), api, constants
        major, minor = api["__version__"].split(".")[:2]
        self.release = int(major), int(minor)
        self.seen: set[str] = set()

    def problems(self) -> list[str]:
        """Return what the release lacks, with lines."""
        return sorted(set(self._block(self.tree.body)))

    def _block(self, statements: list[ast.stmt]) -> Iterator[str]:
        for statement in statements:
            if isinstance(statement, ast.If):
                known = self._known(statement.test)
                yield from self._expression(statement.test)
                if known is not False:
                    yield from self._block(statement.body)
                if known is not True:
                    yield from self._block(statement.orelse)
                if known is True and isinstance(statement.body[-1], (ast.Return, ast.Raise, ast.Continue)):
                    return
                continue
            for name in ("body", "orelse", "finalbody"):
                inner = getattr(statement, name, None)
                if isinstance(inner, list) and inner and isinstance(inner[0], ast.stmt):
                    yield from self._block(inner)
            for handler in getattr(statement, "handlers", []):
                yield from self._block(handler.body)
            for child in ast.iter_child_nodes(statement):
                if not isinstance(child, (ast.stmt, ast.ExceptHandler)):
                    yield from self._expression(child)

    def _expression(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.IfExp):
            known = self._known(node.test)
            branches = [b for b, ruled_out in ((node.body, False), (node.orelse, True)) if known is not ruled_out]
            for branch in branches:
                yield from self._expression(branch)
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from self._call(node, node.func)
        elif isinstance(node, ast.Attribute):
            yield from self._name(node)
        for child in ast.iter_child_nodes(node):
            yield from self._expression(child)

    def _call(self, call: ast.Call, function: ast.Attribute) -> Iterator[str]:
        owner = self._class_of(function.value)
        members = self.api.get(owner) if owner else None
        limits = members.get(function.attr) if isinstance(members, dict) else None
        if owner == "" and isinstance(self.api.get(function.attr), dict):  # trt.Builder(...)
            members, limits = self.api[function.attr], self.api[function.attr].get("__init__")
        if limits and not any(isinstance(a, ast.Starred) for a in call.args):
            count = len(call.args) + len(call.keywords) - (function.attr == "__init__")  # called on the class: with self
            if count < limits[0] or (limits[1] >= 0 and count > limits[1]):
                yield f"line {call.lineno}: {function.attr} takes {limits}, {count} given"

    def _name(self, node: ast.Attribute) -> Iterator[str]:
        owner = self._class_of(node.value)
        if owner is None or node.attr.startswith("_"):
            return
        if owner and not isinstance(self.api.get(owner), dict):
            yield f"line {node.lineno}: {owner} is not in {self.api['__version__']}"
        elif node.attr not in (self.api[owner] if owner else self.api):
            yield f"line {node.lineno}: {owner or 'tensorrt'}.{node.attr} is not in {self.api['__version__']}"
        else:
            self.seen.add(f"{owner}.{node.attr}")

    def _class_of(self, node: ast.AST) -> str | None:
        """Return "" for the module, a class of it, or ``None`` for anything else."""
        if isinstance(node, ast.Name) and node.id == "trt":
            return ""
        if isinstance(node, ast.Attribute):
            if node.attr == "trt":
                return ""
            if self._class_of(node.value) == "" and isinstance(self.api.get(node.attr), dict):
                return node.attr
            return CLASSES.get(node.attr)
        return CLASSES.get(node.id) if isinstance(node, ast.Name) else None

    def _known(self, test: ast.expr) -> bool | None:
        """Return what a version check says in this release, ``None`` for other conditions."""
        if isinstance(test, ast.BoolOp):
            decides = isinstance(test.op, ast.Or)  # one true decides an "or", one false an "and"
            return decides if any(self._known(value) is decides for value in test.values) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in COMPARE:
            left, right = test.left, test.comparators[0]
            if isinstance(left, ast.Call) and isinstance(left.func, ast.Name) and left.func.id == "release_of":
                value = self.constants[right.id] if isinstance(right, ast.Name) else ast.literal_eval(right)
                return COMPARE[type(test.ops[0])](self.release, value)
        return None
