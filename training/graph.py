"""Menny's forward pass on a CPU, in NumPy: the function of `training.model`, for serving and proof.

The weights are those of `training.rewriting`. What makes it quick besides:

- Equal rows stay equal through every layer, and empty positions are equal too. So each query's
  different rows go through the model once, and attention counts each as often as it occurs.
- All queries' rows are the columns of one matrix (V, N): whatever is done element by element runs
  along the queries, and NumPy is slow on short axes.
- A bias is one more column of its matrix, for the input has one more row, of ones.

Shapes: B queries, L positions, V letters and width, H heads, D = V / H dimensions each, 4 V hidden
units, N columns.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from training.architecture import EPSILON, MLP_DIMS, NUM_HEADS, Parameters
from training.rewriting import HEAD_DIMS, Float32, FusedWeights, Linear, Mlp
from training.vocabulary import MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters

Index = npt.NDArray[np.integer]
Exp = Callable[[Float32, Float32, int], None]
"""Of scores, how often each key counts (0: not at all), and the axis of the keys; in place."""

BLOCK = max(24, MAX_QUERY_LENGTH)
"""Columns in which each row asks all, so that one product serves several queries."""
MAX_ONE_BLOCK = 2 * BLOCK
"""So few columns are one block."""
MAX_IN_BLOCKS = 256
"""Queries; more are faster in pieces of as many, ordered by the number of their rows."""
MAX_SCORE = 60.0
"""Scores that are no larger need no maximum taken away before `exp`."""

_EMPTY = VOCABULARY_SIZE
"""The row of an empty position, in tables of rows by letter."""


class Layout(Protocol):
    """How queries lie in the columns, and how their rows find each other there."""

    def heads(self, rows: Float32) -> Float32:
        """Queries, keys or values below each other, (parts * V, N), to the heads of each part."""

    def attend(self, queries: Float32, keys: Float32, values: Float32) -> Float32:
        """softmax(Q K^T) V in each head; from `heads` to (V, N)."""


class _Rows(NamedTuple):
    """The different rows of all queries, N in all, those of a query together."""

    query: Index
    """Whose each is, (N,)."""
    letter: Index
    times: Index
    """How often it occurs in its query."""
    of_position: Index
    """The number of each position's row, (B, L)."""
    num_rows: Index
    """Of each query, (B,)."""

    @property
    def place(self) -> Index:
        """Which of its query's rows each is, (N,)."""
        return np.arange(len(self.query)) - (self.num_rows.cumsum() - self.num_rows)[self.query]


class FusedMenny:
    """The model as a function from letters (B, L) to logits (B, L, V)."""

    def __init__(self, parameters: Parameters) -> None:
        weights = FusedWeights(parameters)
        self._stream_of_letter = np.ascontiguousarray(weights.stream_of_letter.T)  # (V, V + 1)
        self._first_encoder = np.ascontiguousarray(weights.first_encoder.T)  # (3 V, V + 1)
        self._first_decoder = np.ascontiguousarray(weights.first_decoder.T)
        self._encoder = [
            (_with_bias(layer.attention), layer.out.weight, _mlp(layer.mlp))
            for layer in weights.encoder
        ]
        self._decoder = [
            (
                _with_bias(layer.attention),
                layer.out.weight,
                _with_bias(layer.queries),
                layer.cross_out.weight,
                _mlp(layer.mlp),
            )
            for layer in weights.decoder
        ]
        self._memory, self._fc = _with_bias(weights.memory), _with_bias(weights.fc)
        self._exp = _exp if weights.max_score < MAX_SCORE else _exp_of_large

    def __call__(self, letters: Letters) -> Float32:
        """Letters (B, L) with `PADDING` where a query has ended, to logits (B, L, V)."""
        every = np.where(letters == PADDING, _EMPTY, letters)
        keys = every + (_EMPTY + 1) * np.arange(len(letters))[:, None]
        different, row, counts = np.unique(keys, return_inverse=True, return_counts=True)
        query, letter = np.divmod(different, _EMPTY + 1)
        if len(different) <= MAX_ONE_BLOCK:
            return self._logits(letter, _Blocks(query[None], counts[None], self._exp))[row]
        rows = _Rows(query, letter, counts, row, np.bincount(query))
        return self._in_blocks(rows) if len(letters) <= MAX_IN_BLOCKS else self._in_pieces(rows)

    def _in_blocks(self, rows: "_Rows") -> Float32:
        """One query's rows after the other's, none of them in two blocks."""
        starts, end = [], 0
        for num_rows in rows.num_rows.tolist():
            if end % BLOCK + num_rows > BLOCK:
                end += BLOCK - end % BLOCK
            starts.append(end)
            end += num_rows
        column = rows.place + np.array(starts)[rows.query]
        shape = (-(-end // BLOCK), BLOCK)
        letter, query, count = (np.full(shape, value) for value in (_EMPTY, -1, 1))
        for at_column, at_row in ((letter, rows.letter), (query, rows.query), (count, rows.times)):
            at_column.put(column, at_row)
        layout = _Blocks(query, count, self._exp)
        logits: Float32 = self._logits(letter.reshape(-1), layout)[column[rows.of_position]]
        return logits

    def _in_pieces(self, rows: "_Rows") -> Float32:
        """The first rows of all queries of a piece, then their second rows and so on."""
        shape = (len(rows.num_rows), MAX_QUERY_LENGTH)
        letter, count = np.full(shape, _EMPTY), np.zeros(shape, dtype=np.float32)
        letter[rows.query, rows.place], count[rows.query, rows.place] = rows.letter, rows.times
        place = rows.place[rows.of_position]  # (B, L)
        logits = np.empty((*shape, VOCABULARY_SIZE), dtype=np.float32)
        order = rows.num_rows.argsort(kind="stable")
        for start in range(0, len(order), MAX_IN_BLOCKS):
            piece = order[start : start + MAX_IN_BLOCKS]
            longest = rows.num_rows[piece[-1]]
            layout = _Places(count[piece, :longest].T.copy(), self._exp)
            computed = self._logits(letter[piece, :longest].T.reshape(-1), layout)
            column = place[piece] * len(piece) + np.arange(len(piece))[:, None]
            logits[piece] = computed[column]
        return logits

    def _logits(self, letters: Index, layout: Layout) -> Float32:
        """Columns of these letters (N,), whose queries lie as the layout has it, to (N, V)."""
        columns = _Columns(len(letters))
        read, add_mlp = columns.read, columns.add_mlp
        heads, attend = layout.heads, layout.attend
        start = self._stream_of_letter.take(letters, axis=1)  # (V, N)

        x = start.copy()
        for i, (attention, out, mlp) in enumerate(self._encoder):
            qkv = read(attention, x) if i else self._first_encoder.take(letters, axis=1)
            x += out @ attend(*heads(qkv))
            add_mlp(mlp, x)

        memory = heads(read(self._memory, x))
        x = start
        for i, (attention, out, queries, cross_out, mlp) in enumerate(self._decoder):
            qkv = read(attention, x) if i else self._first_decoder.take(letters, axis=1)
            x += out @ attend(*heads(qkv))
            x += cross_out @ attend(*heads(read(queries, x)), *memory[2 * i : 2 * i + 2])
            add_mlp(mlp, x)
        return read(self._fc, x).T


class _Columns:
    """What is done to each of N columns by itself, and the memory for it, which is used again."""

    def __init__(self, size: int) -> None:
        self._with_epsilon = np.full((VOCABULARY_SIZE + 1, size), EPSILON, dtype=np.float32)
        self._normalised_and_1 = np.ones((VOCABULARY_SIZE + 1, size), dtype=np.float32)
        self._hidden_and_1 = np.ones((MLP_DIMS + 1, size), dtype=np.float32)
        self._squares = self._with_epsilon[:-1]
        self._normalised, self._hidden = self._normalised_and_1[:-1], self._hidden_and_1[:-1]
        self._zeros = np.zeros((MLP_DIMS, size), dtype=np.float32)

    def read(self, matrix: Float32, x: Float32, out: Float32 | None = None) -> Float32:
        """RMSNorm, then a linear layer: (V, N) -> (outputs, N)."""
        np.multiply(x, x, self._squares)
        mean_squares = _MEAN @ self._with_epsilon  # (1, N)
        np.divide(x, np.sqrt(mean_squares, mean_squares), self._normalised)
        return np.matmul(matrix, self._normalised_and_1, out)

    def add_mlp(self, mlp: tuple[Float32, Float32], x: Float32) -> None:
        """Add the feed-forward block's result to x (V, N)."""
        hidden = self.read(mlp[0], x, self._hidden)
        np.maximum(hidden, self._zeros, out=hidden)  # with one 0 it takes three times as long
        x += mlp[1] @ self._hidden_and_1


_MEAN = np.full((1, VOCABULARY_SIZE + 1), 1 / VOCABULARY_SIZE, dtype=np.float32)
_MEAN[0, -1] = 1


class _Blocks:
    """Columns in blocks: every row asks all of its block, and hears those of its own query.

    Args:
        query: The query that each column belongs to, (blocks, columns of each).
        count: How often its row occurs there, in the same shape.
        exp: `_exp` or `_exp_of_large`.
    """

    def __init__(self, query: Index, count: Index, exp: Exp) -> None:
        is_own = query[:, :, None] == query[:, None]
        self._weights = (is_own * count[:, :, None]).astype(np.float32)  # who is asked, who asks
        self._ones = np.ones((1, query.shape[1]), dtype=np.float32)
        self._shape = (-1, NUM_HEADS, HEAD_DIMS, *query.shape)
        self._exp = exp

    def heads(self, rows: Float32) -> Float32:
        """See `Layout`; each part is (H, blocks, D, columns)."""
        return rows.reshape(self._shape).swapaxes(2, 3)

    def attend(self, queries: Float32, keys: Float32, values: Float32) -> Float32:
        """See `Layout`."""
        scores = keys.swapaxes(-1, -2) @ queries
        self._exp(scores, self._weights, -2)
        heard = values @ scores
        heard /= self._ones @ scores
        return heard.swapaxes(1, 2).reshape(VOCABULARY_SIZE, -1)


class _Places:
    """The first rows of all queries in the first columns, then their second rows and so on.

    Args:
        count: How often each row occurs in its query, 0 where there is none: (rows, queries).
        exp: `_exp` or `_exp_of_large`.
    """

    def __init__(self, count: Float32, exp: Exp) -> None:
        self._count = count
        self._shape = (-1, NUM_HEADS, HEAD_DIMS, *count.shape)
        self._exp = exp

    def heads(self, rows: Float32) -> Float32:
        """See `Layout`; each part is (H, D, rows, queries)."""
        return rows.reshape(self._shape)

    def attend(self, queries: Float32, keys: Float32, values: Float32) -> Float32:
        """See `Layout`."""
        scores = np.einsum("hdib,hdjb->hijb", queries, keys)
        self._exp(scores, self._count, 2)
        heard = np.einsum("hijb,hdjb->hdib", scores, values)
        heard /= np.add.reduce(scores, axis=2)[:, None]
        every: Float32 = heard.reshape(VOCABULARY_SIZE, -1)
        return every


def _exp(scores: Float32, counts: Float32, _axis: int) -> None:
    """`exp`, times the counts."""
    np.exp(scores, out=scores)
    scores *= counts


def _exp_of_large(scores: Float32, counts: Float32, axis: int) -> None:
    """The same but for a factor of each query's own, which attention divides out."""
    np.copyto(scores, -np.inf, where=counts == 0)  # those of others may be far larger
    scores -= scores.max(axis, keepdims=True)
    _exp(scores, counts, axis)


def _with_bias(linear: Linear) -> Float32:
    return np.column_stack(linear)


def _mlp(mlp: Mlp) -> tuple[Float32, Float32]:
    return _with_bias(mlp.hidden), _with_bias(mlp.out)
