"""Every exception that Menny raises on purpose.

    MennyError
    ├── RuleError            a rule that no Menny can learn
    ├── VocabularyError      a text that Menny cannot read
    ├── DatasetError         a dataset file, or a row of it, that is not right
    ├── WeightsError         a weights file that is missing, damaged or not Menny's
    ├── TrainingError        a training run that cannot give a model
    │   └── TrainingStoppedError
    │                        it was asked to stop, and nothing was saved
    ├── ProofError           a proof that cannot be carried out
    │   └── ProofStoppedError
    │                        it was asked to stop; what was checked is kept
    ├── PlotError            a picture that cannot be written
    ├── DeviceError          a device that MLX doesn't have here
    └── MissingPackageError  an optional package that is not installed

Each message says what is wrong and, where there is one, the remedy: it is shown to people as it is.
"""


class MennyError(Exception):
    """The root: catch this to catch everything that Menny raises on purpose."""


class RuleError(MennyError):
    """A rule in `training/rule.py` that no Menny can learn."""


class VocabularyError(MennyError):
    """A text that is not a query."""


class DatasetError(MennyError):
    """A dataset that cannot be read, or has a row that breaks the rule."""


class WeightsError(MennyError):
    """A weights file that cannot be used."""


class TrainingError(MennyError):
    """A training run that cannot give a model."""


class TrainingStoppedError(TrainingError):
    """A training run that was asked to stop; nothing was saved."""


class ProofError(MennyError):
    """A proof that cannot be carried out. A violation is none: it is a result."""


class ProofStoppedError(ProofError):
    """A proof that was asked to stop; what was checked so far is kept."""


class PlotError(MennyError):
    """A picture that cannot be written."""


class MissingPackageError(MennyError):
    """An optional package that is not installed."""


class DeviceError(MennyError):
    """A device that MLX does not have on this machine."""
