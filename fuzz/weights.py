"""`python -m fuzz.weights [CORPUS] [-max_total_time=60]`: arbitrary bytes as a weights file.

The first byte says what the others are: a file, one array in an archive that is otherwise right,
a model card or an answer table. Whatever they are, loading them ends in an error of ours or in
arrays that are exactly what Menny needs. So that thousands of files a second can be tried, Menny is
made small.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["training.weights", "training.proof.answers", "zipfile", "numpy.lib._format_impl"]
):
    import training.weights as weights
    import training.weights.npz as npz
    from training.proof import answers

import numpy as np

from fuzz.seeds import CARD, FILE, MEMBER, NUM_CODES, SHA256, SHAPES, TABLE, archive
from training.errors import WeightsError

PATH = Path(tempfile.mkdtemp(prefix="menny-fuzz-")) / "menny.npz"


def load_bytes(data: bytes) -> None:
    """Load a file made of the bytes; raises whatever must not happen."""
    kind, content = data[:1], data[1:]
    if kind == TABLE:
        load_table_bytes(content)
        return
    card = weights.card_path(PATH)
    if kind == CARD:
        PATH.write_bytes(archive({}))
        card.write_bytes(content)
    else:
        card.unlink(missing_ok=True)
        PATH.write_bytes(archive({"fc.weight": content}) if kind == MEMBER else content)
    try:
        loaded = weights.load_weights(PATH)
    except WeightsError as error:
        message = str(error)
        assert message.isprintable() and len(message) < 1000, message
        return
    assert {name: array.shape for name, array in loaded.parameters.items()} == SHAPES
    for array in loaded.parameters.values():
        assert array.dtype == np.float32 and np.isfinite(array).all()
    if loaded.card is not None:
        assert loaded.card.sha256 == loaded.sha256


def load_table_bytes(content: bytes) -> None:
    """Load an answer table made of the bytes; raises whatever must not happen."""
    PATH.write_bytes(content)
    try:
        table = answers.load_table(PATH, SHA256)
    except WeightsError as error:
        message = str(error)
        assert message.isprintable() and len(message) < 1000, message
        return
    assert table.codes.shape == (NUM_CODES,) and table.codes.dtype == np.uint16
    assert table.codes.max() < 5


def main() -> None:
    """Fuzz until a finding, or for as long as libFuzzer's options say."""
    npz.parameter_shapes = lambda: SHAPES
    answers.NUM_MULTISETS, answers._SIZES, answers._LENGTHS = NUM_CODES, [NUM_CODES], [1]
    kinds = bytes([*FILE, *MEMBER, *CARD, *TABLE])

    def test_one_input(data: bytes) -> None:
        if data:
            load_bytes(kinds[data[0] % 4 : data[0] % 4 + 1] + data[1:])

    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
