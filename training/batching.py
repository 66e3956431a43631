"""Step 3: batches."""

from collections.abc import Iterator

import numpy as np

from training.dataset import Dataset


def batch_iterate(
    dataset: Dataset, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[Dataset]:
    """Yield the dataset in batches of `batch_size`; a remainder that fills no batch is dropped.

    With a generator the rows are shuffled first; without, they come in order, as in the book.
    """
    order = np.arange(len(dataset)) if rng is None else rng.permutation(len(dataset))
    for start in range(0, len(dataset) - batch_size + 1, batch_size):
        yield dataset[order[start : start + batch_size]]


if __name__ == "__main__":
    from training.show import show

    show("batching")
