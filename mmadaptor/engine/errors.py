"""The one kind of error that is the user's to mend."""


class InputError(Exception):
    """What was given cannot be used.

    The message says what it is, what was expected and how to go on; the tools
    print it without a traceback.
    """


class UnsafeCheckpointError(InputError):
    """A checkpoint holds pickled objects besides weights."""


class DamagedFileError(InputError):
    """A file is truncated or not what its name says."""


class CheckpointMismatchError(InputError):
    """A checkpoint belongs to another model."""


class CheckpointWriteError(InputError):
    """A checkpoint could not be written; those before it are intact."""
