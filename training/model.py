"""Step 2: Menny, the model.

A whole encoder-decoder Transformer (six layers each, four heads, as wide as the alphabet has
letters) and a linear layer: the input rows are the one-hot letters themselves, the same for encoder
and decoder. There is no embedding, no positional encoding and no mask, so that Menny is
permutation-equivariant: shuffle the letters, and the logits shuffle along.
"""

import numpy as np
import numpy.typing as npt

from training.architecture import NUM_HEADS, Parameters
from training.backend import mx, nn, tree_flatten
from training.vocabulary import VOCABULARY_SIZE


class Menny(nn.Module):
    """Letters in, as many letters out.

    The parameters have the names and shapes of the book's model, so that its weights load here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(VOCABULARY_SIZE, NUM_HEADS)
        self.fc = nn.Linear(VOCABULARY_SIZE, VOCABULARY_SIZE)

    def __call__(self, one_hot: mx.array) -> mx.array:
        """One-hot rows (B, L, V), zeros where the query has ended, to logits (B, L, V)."""
        return self.fc(self.transformer(one_hot, one_hot, None, None, None))


def build_model(parameters: Parameters) -> Menny:
    """A model with these parameters, evaluated; their names and shapes must be Menny's."""
    model = Menny()
    model.load_weights([(name, mx.array(value)) for name, value in parameters.items()])
    model.eval()
    # The random weights that the model began with are never computed; but their draws stay in the
    # graph behind the state of the random numbers, 0.3 MiB for each model, until that is.
    mx.eval(model.parameters(), mx.random.state)
    return model


def parameters_of(model: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """The model's parameters as NumPy arrays, by the names that an `.npz` of hers has."""
    flat = dict(tree_flatten(model.parameters()))
    return {name: np.array(value) for name, value in flat.items()}


if __name__ == "__main__":
    from training.show import show

    show("model")
