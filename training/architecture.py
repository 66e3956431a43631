"""How large Menny is, and what her parameters are called: what needs no array library to know."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.rule import RULE
from training.vocabulary import VOCABULARY_SIZE

Parameters = Mapping[str, npt.NDArray[np.float32]]
"""A model's parameters, by the names that the book's `.npz` gives them."""

NUM_HEADS = RULE.num_heads
NUM_LAYERS = 6
MLP_DIMS = 4 * VOCABULARY_SIZE
EPSILON = 1e-5
"""What mlx.nn.LayerNorm adds to the variance."""


def parameter_shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of Menny's parameters."""
    dims, mlp = VOCABULARY_SIZE, MLP_DIMS
    shapes: dict[str, tuple[int, ...]] = {}

    def add_layer_norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (dims,)

    def add_linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    for half, attentions in [
        ("encoder", ["attention"]),
        ("decoder", ["self_attention", "cross_attention"]),
    ]:
        for layer in range(NUM_LAYERS):
            prefix = f"transformer.{half}.layers.{layer}"
            for attention in attentions:
                for projection in ["query_proj", "key_proj", "value_proj", "out_proj"]:
                    shapes[f"{prefix}.{attention}.{projection}.weight"] = (dims, dims)
            for number in range(1, len(attentions) + 2):
                add_layer_norm(f"{prefix}.ln{number}")
            add_linear(f"{prefix}.linear1", dims, mlp)
            add_linear(f"{prefix}.linear2", mlp, dims)
        add_layer_norm(f"transformer.{half}.ln")
    add_linear("fc", dims, dims)
    return shapes
