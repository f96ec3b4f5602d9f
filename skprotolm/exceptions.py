"""Errors and warnings of the package."""


class BackboneNotFoundError(OSError):
    """The pretrained encoder is not a folder, not installed, and not on the hub."""


class MissingExtraError(ImportError):
    """An optional dependency is missing; the message names the package to install."""


class ConstantLabelsWarning(UserWarning):
    """A label of several per text occurs with no training text, or with all."""


class DuplicatePrototypesWarning(UserWarning):
    """Some prototypes of a class are nearly identical."""


class FewerPrototypesWarning(UserWarning):
    """A class has fewer distinct texts than requested prototypes."""


class FitInterruptedWarning(UserWarning):
    """Training was interrupted; the model learned so far was kept."""


class SingleTextClassesWarning(UserWarning):
    """Every class has a single text, for example because y contains identifiers."""


class TextTruncatedWarning(UserWarning):
    """Some texts are longer than the encoder's limit and were truncated."""


class UnpredictedClassWarning(UserWarning):
    """A class is never predicted on the held-out texts, or on the training texts."""


class UnreadTextWarning(UserWarning):
    """Some texts contain words that the tokenizer, and so the model, cannot read."""


class WaitingForProcessesWarning(UserWarning):
    """A fit waits for the other processes that its environment announces."""
