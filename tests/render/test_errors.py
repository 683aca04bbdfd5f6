"""`render.errors`: worded for a Python caller, and as a flag for the user of a command line."""

import pickle

from render.errors import AudioError, MelvisionError, ParameterError, PictureError


def test_every_kind_is_a_value_error():
    assert issubclass(MelvisionError, ValueError)
    assert all(issubclass(kind, MelvisionError) for kind in (ParameterError, PictureError, AudioError))


def test_a_parameter_is_a_flag_on_the_command_line():
    error = ParameterError("batch_size", 0, "1 or more")
    assert str(error) == "batch_size=0: expected 1 or more"
    assert error.as_flag() == "--batch-size 0: expected 1 or more"
    assert str(ParameterError("cmap", "x y", "a colormap")) == "cmap='x y': expected a colormap"


def test_errors_come_back_from_other_processes():
    error = pickle.loads(pickle.dumps(ParameterError("size", 3, "a multiple of 32")))
    assert (error.parameter, error.value, error.expected) == ("size", 3, "a multiple of 32")
