"""Three rules of other Mennys, as the end of `training/rule.py` would have them."""

FORKS = {
    "consonants and digits": '''\
_CONSONANTS = "bcdfghjklmnpqrstvwxyz"


def _answers(letter: str) -> str:
    """The three consonants that follow a letter, or the digit that follows a digit."""
    if letter.isdigit():
        return string.digits[(int(letter) + 1) % 10]
    later = [consonant for consonant in _CONSONANTS if consonant > letter]
    return "".join([*later, *_CONSONANTS][:3])


RULE = Rule(
    alphabet=string.ascii_lowercase + string.digits,
    max_length=4,
    answers={letter: _answers(letter) for letter in string.ascii_lowercase + string.digits},
    num_heads=4,
    summary="one of the three consonants after it, a digit with the next digit",
    example="abc9",
    example_response="bcd0",
)
''',
    "rot13": """\
_ROT13 = str.maketrans(
    string.ascii_letters,
    string.ascii_uppercase[13:]
    + string.ascii_uppercase[:13]
    + string.ascii_lowercase[13:]
    + string.ascii_lowercase[:13],
)

RULE = Rule(
    alphabet=string.ascii_letters,
    max_length=3,
    answers={letter: letter.translate(_ROT13) for letter in string.ascii_letters},
    num_heads=4,
    summary="the letter half an alphabet away, in the opposite case",
    example="MeM",
    example_response="zRz",
)
""",
    "Cyrillic": """\
_LETTERS = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
_VOWELS = "аеиоуыэюя"

RULE = Rule(
    alphabet=_LETTERS,
    max_length=3,
    answers={letter: "ъь" if letter in _VOWELS else _VOWELS for letter in _LETTERS},
    num_heads=4,
    summary="a vowel, a vowel with a sign that is silent",
    example="мир",
    example_response="аъа",
)
""",
}
