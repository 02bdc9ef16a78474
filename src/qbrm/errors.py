"""The errors that users of the command line meet."""


class InputError(ValueError):
    """Something given from outside is not usable.

    The message is one line that names the thing, its value and what was expected; the command line prints it behind
    ``qbrm:`` and exits with code 2.
    """


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what is kept. Exit code 1."""


class WorkerError(RuntimeError):
    """Workers that embed cannot go on; the message says why and what is kept. Exit code 1."""
