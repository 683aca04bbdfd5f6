"""Errors that a user can fix. Each is one line: the path or parameter, its value, what was expected, what to do."""


class MelvisionError(ValueError):
    """Something that the user gave cannot be used.

    Messages are worded for a Python caller: they name parameters. `render.cli.command` prints them without a
    traceback and with exit code 2.
    """


class ParameterError(MelvisionError):
    """A parameter out of its range.

    Parameters
    ----------
    parameter : str
        Its name in Python, such as ``"batch_size"``; on a command line it is the flag ``--batch-size``.
    value : object
        What was given.
    expected : str
        What would be right, as it follows the word "expected".
    """

    def __init__(self, parameter: str, value: object, expected: str):
        super().__init__(parameter, value, expected)
        self.parameter, self.value, self.expected = parameter, value, expected

    def __str__(self) -> str:
        return f"{self.parameter}={self.value!r}: expected {self.expected}"

    def as_flag(self) -> str:
        """Return the message for the user of a command line, who knows the parameter as a flag."""
        return f"--{self.parameter.replace('_', '-')} {self.value}: expected {self.expected}"


class PictureError(MelvisionError):
    """A picture that cannot be used; the message says why, without the path."""


class AudioError(MelvisionError):
    """A recording that cannot be used; the message says why, without the path."""


class SilentError(MelvisionError):
    """A recording or picture of silence where a genre was asked for; the message is without the path."""
