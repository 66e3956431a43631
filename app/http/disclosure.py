"""What errors may say of the machine: names of files, never where they are."""

import re
from collections.abc import Callable

from app.settings import Settings

Redact = Callable[[str], str]


def redactor(settings: Settings) -> Redact:
    """A function that takes the folders of the service out of a text.

    A file in one of them is left with its name, and the folder itself becomes the name of its
    setting. Anybody may ask /health; the whole text is in the log.
    """
    state, weights = settings.state_dir, settings.weights
    replacements: dict[str, str] = {}
    for path, setting in ((state, "MENNY_STATE_DIR"), (weights, "MENNY_WEIGHTS")):
        for form in (path, path.absolute(), path.resolve()):
            if form.is_absolute():
                if setting == "MENNY_STATE_DIR":
                    replacements[str(form)] = setting
                replacements[f"{form.parent}/"] = ""
    for sub in ("versions", "staging"):
        for form in (state.absolute(), state.resolve()):
            replacements[f"{form / sub}/"] = ""
    for form in (state.absolute(), state.resolve()):
        replacements[f"{form}/"] = ""
    replacements.pop("/", None)
    longest_first = sorted(replacements, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(text)}" for text in longest_first))
    return lambda text: pattern.sub(lambda found: replacements[found[0]], text)
