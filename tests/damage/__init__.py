"""Damaged weights files and answer tables, more than a thousand, the same ones each time.

`corpus` gives them one by one; each is written only when it is asked for.
"""

from collections.abc import Iterator

from tests.damage.archive import Damaged
from tests.damage.arrays import damaged_arrays
from tests.damage.bits import damaged_bits
from tests.damage.cards import damaged_cards
from tests.damage.directory import damaged_directories
from tests.damage.members import damaged_members
from tests.damage.places import damaged_places
from tests.damage.tables import damaged_tables


def corpus() -> Iterator[Damaged]:
    """Every damaged weights file, each under a name of its own."""
    yield from damaged_bits()
    yield from damaged_directories()
    yield from damaged_members()
    yield from damaged_arrays()
    yield from damaged_cards()
    yield from damaged_places()


def corpus_with_tables() -> Iterator[Damaged]:
    """The same, and whole weights beside damaged answer tables."""
    yield from corpus()
    yield from damaged_tables()
