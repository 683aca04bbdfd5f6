"""What tests have other processes do.

Little is imported here: a worker imports the module of its first task within the limits of that task, and
numpy and pytest would take a good part of the second of processor time that tests give.
"""

import itertools
import os
import signal
import subprocess
import time


def call(function, *args):
    """Any function as a task."""
    return function(*args)


def double(x):
    return 2 * x


def nap_and_tell(seconds):
    time.sleep(seconds)
    return os.getpid()


def after(flag, function, *args):
    """Wait for a file, and then call a function."""
    while not flag.exists():
        time.sleep(0.01)
    return function(*args)


def note_and(path, function, *args):
    """Add a line to a file, and then call a function."""
    with open(path, "a") as file:
        file.write("tried\n")
    return function(*args)


def meet(folder, n):
    """Wait until so many processes are here; tells which this one is."""
    (folder / str(os.getpid())).touch()
    while len(os.listdir(folder)) < n:
        time.sleep(0.01)
    return os.getpid()


def burn(seconds):
    """Use that much processor time, on a machine of any speed and however busy; tells which process did."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def eat():
    """Allocate without bound, as decoding does."""
    import numpy as np

    eaten = []
    while True:
        eaten.append(np.ones(1 << 20))


def die_once(flag):
    """Be killed the first time, as if the kernel had run out of memory over something else."""
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def babble():
    """Write to where a decoder in C would."""
    os.write(1, b"frame 1: bad header\n" * 10)
    print("more")
    return "fine"


def hang_with_a_child(folder, how):
    """Start a program, as for ffmpeg, and never return; once two have."""
    program = subprocess.Popen(["sleep", "1000"])
    (folder / f"{os.getpid()}.part").write_text(f"{os.getpid()} {program.pid}")
    (folder / f"{os.getpid()}.part").rename(folder / f"{os.getpid()}.pids")
    while len(list(folder.glob("*.pids"))) < 2:
        time.sleep(0.01)
    if how == "asleep":
        time.sleep(1000)
    sum(itertools.repeat(1))


def open_picture(path):
    """Read a picture, and say in one line why it cannot be read."""
    from render import png
    from render.errors import PictureError

    try:
        with png.open_picture(path) as image:
            png.load_pixels(image)
    except PictureError as error:
        return str(error)
    return ""
