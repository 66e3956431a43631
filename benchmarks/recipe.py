"""Whether a recipe gives a provable model whatever the seed.

    python benchmarks/recipe.py --recipe default --seeds 20 --out docs/recipe.md
    python benchmarks/recipe.py --recipe default --seeds 3 --set num_epochs=80 --set batch_size=128

For each seed: training time; queries that break the rule among all of up to three letters, and
among random ones of four and five; the excess over ln 5 and the smallest margin over both. A
table in Markdown goes to the standard output and, line by line, to `--out`.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.backend import mlx_on_this_thread
from training.config import Recipe, TrainingConfig, recipe_config
from training.dataset import generate_queries
from training.model import build_model
from training.proof.check import Findings, check, merge
from training.proof.queries import Plan, Workload
from training.trainer import forward_of, train
from training.vocabulary import PADDING, Letters

HEADER = (
    "| seed | time (s) | rule violations, all queries of <= 3 letters "
    "| rule violations, random longer queries | excess_nll | smallest margin |\n"
    "| ---: | ---: | ---: | ---: | ---: | ---: |"
)
MIN_MARGIN, MAX_EXCESS_NLL = 1.0, 0.001


@dataclass(frozen=True)
class Row:
    """What one seed gave."""

    seed: int
    seconds: float
    short: Findings
    longer: Findings
    excess_nll: float
    """On fresh queries."""

    @property
    def margin(self) -> float:
        """The smallest one that was seen."""
        return min(self.short.smallest_margin, self.longer.smallest_margin)

    @property
    def is_good(self) -> bool:
        """Whether it looks provable."""
        violations = self.short.violations + self.longer.violations
        return not violations and self.margin >= MIN_MARGIN and self.excess_nll <= MAX_EXCESS_NLL

    def __str__(self) -> str:
        return (
            f"| {self.seed} | {self.seconds:.1f} | {self.short.violations:,} "
            f"| {self.longer.violations:,} of {self.longer.queries:,} | {self.excess_nll:.5f} "
            f"| {self.margin:.2f} |"
        )


def measure(config: TrainingConfig, longer: Workload) -> Row:
    result = train(config)
    forward = forward_of(build_model(result.parameters))

    def findings(work: Workload) -> Findings:
        return merge(check(forward, work.chunk(index)) for index in range(work.num_chunks))

    return Row(
        config.seed,
        result.seconds,
        findings(Plan(max_length=3).workload()),
        findings(longer),
        result.fresh.excess_nll,
    )


def longer_queries(num_queries: int) -> Workload:
    """Random queries of four and five letters."""
    rng = np.random.default_rng(2026)
    queries: Letters = generate_queries(4 * num_queries, rng)
    is_longer = (queries != PADDING).sum(axis=1) >= 4
    return Workload(queries[is_longer][:num_queries], with_anagrams=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Recipe, choices=list(Recipe), default=Recipe.DEFAULT)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=200_000, help="random longer queries")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    options = parser.parse_args()
    changes = dict(change.split("=", 1) for change in options.set)
    longer = longer_queries(options.queries)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)
        if options.out:
            options.out.write_text("\n".join(lines) + "\n")

    rows = []
    say(HEADER)
    with mlx_on_this_thread():
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            config = recipe_config(options.recipe, **changes, seed=seed)
            rows.append(measure(config, longer))
            say(str(rows[-1]))
    good = sum(row.is_good for row in rows)
    say(
        f"\nRecipe `{options.recipe}`"
        + "".join(f", {name} = {value}" for name, value in changes.items())
        + f": {good} of {len(rows)} seeds without a violation, margin >= {MIN_MARGIN:g} and "
        f"excess_nll <= {MAX_EXCESS_NLL:g}; median time "
        f"{statistics.median(row.seconds for row in rows):.1f} s."
    )


if __name__ == "__main__":
    main()
