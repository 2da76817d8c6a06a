"""Errors a build can end with. Each message says what was wrong, with which value, and what to do."""


class BuildError(Exception):
    """Base of everything this package raises on purpose."""


class SourceError(BuildError):
    """The checkpoint cannot be found, fetched or read."""


class UnsupportedModel(BuildError):
    """The checkpoint is readable, but this recipe cannot quantize or export it."""


class CalibrationError(BuildError):
    """The calibration text cannot be had, or there is too little of it."""


class StageFailed(BuildError):
    """A child process of the build ended badly; the message names its log."""


class VerificationFailed(BuildError):
    """The export does not agree with the checkpoint it was made from; nothing was published."""
