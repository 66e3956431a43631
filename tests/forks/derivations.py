"""`python derivations.py RULE`: what is derived from a rule, shown by asking all there is to ask.

A process of its own, for everything is derived when it is imported. `RULE` is Python source.
"""

import itertools
import math
import string
import sys

import numpy as np

import training.rule

source = {"Rule": training.rule.Rule, "string": string}
exec(sys.argv[1], source)  # noqa: S102 - the test's own
RULE = training.rule.RULE = source["RULE"]

from training.architecture import parameter_shapes  # noqa: E402
from training.dataset import IS_ALLOWED, LABEL_ODDS, generate_dataset  # noqa: E402
from training.evaluation import BEST_NLL, EXACT_MATCH_CEILING, evaluate, fresh_dataset  # noqa: E402
from training.proof.answers import CODE_TYPE, AnswerTable, check_table, encode_answers, ranks  # noqa: E402
from training.proof.queries import NUM_QUERIES, Plan, count_anagrams  # noqa: E402
from training.vocabulary import PADDING, decode_batch, encode_batch, one_hot  # noqa: E402

SIZE = len(RULE.alphabet)
rng = np.random.default_rng(0)


def model(letters):
    """Logits (B, L, V) of a model that knows the rule, and answers each letter as it likes."""
    likes = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)
    return np.where(IS_ALLOWED, likes, -50).astype(np.float32)[letters]


def perfect(letters):
    """Logits of a model that knows the labels' distribution."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(LABEL_ODDS), -60).astype(np.float32)[letters]


# letters and numbers
texts = [
    "".join(query)
    for length in range(1, min(RULE.max_length, 2) + 1)
    for query in itertools.product(RULE.alphabet, repeat=length)
]
assert decode_batch(encode_batch(texts)) == texts
assert one_hot(encode_batch(texts)).shape == (len(texts), RULE.max_length, SIZE)
assert parameter_shapes()["fc.weight"] == (SIZE, SIZE)

# data and what can be learnt of it
data = generate_dataset(20_000, rng)
for query, label in data.pairs():
    assert len(query) == len(label)
    assert all(answer in RULE.answers[letter] for letter, answer in zip(query, label, strict=True))
numbers = [len(RULE.answers[letter]) for letter in RULE.alphabet]
assert math.isclose(BEST_NLL, sum(map(math.log, numbers)) / SIZE, abs_tol=1e-12)
assert math.isclose(EXACT_MATCH_CEILING, sum(1 / n for n in numbers) / SIZE)
measured = evaluate(perfect, fresh_dataset(20_000, rng))
assert measured.rule_accuracy == 1
assert abs(measured.excess_nll) < 1e-6
assert abs(measured.exact_match - EXACT_MATCH_CEILING) < 0.02
assert evaluate(lambda letters: -perfect(letters), data).rule_accuracy == 0

# every query there is, and a table of all answers
everything = Plan().workload().queries
assert len(everything) == RULE.num_multisets
assert count_anagrams(everything).sum() == NUM_QUERIES == RULE.num_queries
padding_first = np.sort(everything, axis=1)
assert (ranks(padding_first.T) == np.arange(len(everything))).all()
answers = np.where(everything == PADDING, PADDING, model(everything).argmax(axis=-1))
codes = encode_answers(everything, answers.astype(np.int8))
assert codes is not None
assert codes.dtype == CODE_TYPE
assert max(numbers) ** RULE.max_length - 1 <= np.iinfo(CODE_TYPE).max
table = AnswerTable(codes, "0" * 64)
check_table(table)
asked = generate_dataset(2000, rng).queries
expected = decode_batch(
    np.where(asked == PADDING, PADDING, model(asked).argmax(axis=-1)).astype(np.int8)
)
assert table.answers(decode_batch(asked)) == expected
assert [table.answer(query) for query in decode_batch(asked)] == expected
forbidden = answers.astype(np.int8)
forbidden[-1, 0] = np.flatnonzero(~IS_ALLOWED[everything[-1, 0]])[0]
assert encode_answers(everything, forbidden) is None
print(CODE_TYPE, RULE.num_multisets, f"{BEST_NLL:.4f} {EXACT_MATCH_CEILING:.4f}")
