"""The errors and warnings that users of the package may want to catch."""


class BackboneNotFoundError(OSError):
    """The pretrained encoder is neither a folder, nor installed, nor on the hub."""


class MissingExtraError(ImportError):
    """An optional package is needed; the message names what to install."""


class DuplicatePrototypesWarning(UserWarning):
    """Prototypes of one class nearly coincide, so they say the same thing twice."""


class FewerPrototypesWarning(UserWarning):
    """A class has fewer distinct texts of its own than prototypes were asked for."""


class FitInterruptedWarning(UserWarning):
    """Training was stopped by hand; the state it had reached was kept."""


class SingleTextClassesWarning(UserWarning):
    """Every class has one text only, as where y holds identifiers, not labels."""


class TextTruncatedWarning(UserWarning):
    """Texts are longer than the encoder reads, and were truncated."""


class UnpredictedClassWarning(UserWarning):
    """A class is never predicted for a held-out (or a training) text."""


class UnreadTextWarning(UserWarning):
    """Texts have words that the tokenizer cannot read, so the model cannot either."""
