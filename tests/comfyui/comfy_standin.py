"""A stand-in of ComfyUI's documented V3 interface (docs.comfy.org/custom-nodes/v3_migration): what nodes are given.

Names, parameters and the checks of a schema are those of ``comfy_api.latest``; sockets carry nothing but their facts.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


@dataclass
class Socket:
    id: str | None
    type: str
    facts: dict[str, Any]


def _type(io_type: str, **allowed: Any) -> type:
    """`io.<Type>` with its Input, which takes the documented keywords only, and its Output."""

    def given(id: str, display_name: str | None = None, optional: bool = False, tooltip: str | None = None,
              lazy: bool | None = None, **facts: Any) -> Socket:  # fmt: skip
        unknown = set(facts) - set(allowed)
        assert not unknown, f"io.{io_type}.Input has no {unknown}"
        return Socket(id, io_type, {"optional": optional, **facts})

    def made(id: str | None = None, display_name: str | None = None, tooltip: str | None = None,
             is_output_list: bool = False) -> Socket:  # fmt: skip
        return Socket(id, io_type, {"display_name": display_name})

    return type(io_type, (), {"Input": staticmethod(given), "Output": staticmethod(made)})


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Socket] = field(default_factory=list)
    outputs: list[Socket] = field(default_factory=list)
    hidden: list[Any] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    not_idempotent: bool = False

    def validate(self) -> None:
        inputs, outputs = [one.id for one in self.inputs], [one.id for one in self.outputs]
        assert len(set(inputs)) == len(inputs)
        assert len(set(outputs)) == len(outputs)
        assert not set(inputs) & set(outputs), "ids of inputs and outputs are told apart"


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, expand: Any = None, block_execution: str | None = None) -> None:
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None


class ComfyNode(ABC):
    @classmethod
    @abstractmethod
    def define_schema(cls) -> Schema: ...

    @classmethod
    @abstractmethod
    def execute(cls, **inputs: Any) -> NodeOutput: ...


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]: ...


def latest() -> ModuleType:
    """The module ``comfy_api.latest``."""
    io = ModuleType("io")
    numbers = {"default": 0, "min": 0, "max": 0, "step": 0, "control_after_generate": None, "display_mode": None}
    io.Image, io.Mask = _type("IMAGE"), _type("MASK")  # type: ignore[attr-defined]
    io.Int, io.Float = _type("INT", **numbers), _type("FLOAT", **numbers, round=0)  # type: ignore[attr-defined]
    io.String = _type("STRING", default="", multiline=False, placeholder="", dynamic_prompts=None)  # type: ignore[attr-defined]
    io.Combo = _type("COMBO", options=[], default=None, control_after_generate=None)  # type: ignore[attr-defined]
    io.Schema, io.NodeOutput, io.ComfyNode = Schema, NodeOutput, ComfyNode  # type: ignore[attr-defined]
    module = ModuleType("comfy_api.latest")
    module.io, module.ComfyExtension = io, ComfyExtension  # type: ignore[attr-defined]
    return module


def run(node: type[ComfyNode], **given: Any) -> tuple[Any, ...]:
    """Call a node as ComfyUI does: every input by its id, widgets by their defaults; as many results as outputs."""
    schema = node.define_schema()
    schema.validate()
    ids = [one.id for one in schema.inputs]
    assert list(inspect.signature(node.execute).parameters) == ids
    defaults = {one.id: one.facts["default"] for one in schema.inputs if "default" in one.facts}
    found = node.execute(**{**defaults, **given})
    assert isinstance(found, NodeOutput)
    assert len(found.args) == len(schema.outputs)
    return found.args
