"""Work shared out to threads, its results in order."""

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch

#: Pieces of work for each thread that are begun or done before the first result is taken.
AHEAD = 8


def in_order(work, pieces, workers):
    """Do pieces of work in several threads, each on its share of torch's own threads.

    Several threads that each compute their own piece wait for nobody. Those in which torch shares out one
    computation wait for the slowest of them at every layer, and much longer where the cores have other work.
    Until the end torch has fewer threads elsewhere too.

    Parameters
    ----------
    work : callable
        Takes a piece, and a `threading.Event` that is set once nobody wants the result.
    pieces : iterable
        Taken as they are needed.
    workers : int
        How many threads; at most as many as torch has.

    Yields
    ------
    result : object
        What `work` returned, in the order of the pieces. What it raises is raised, and ends it all.
    """
    pieces, stop, threads = iter(pieces), threading.Event(), torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:
        try:
            torch.set_num_threads(threads // workers)
            ahead = deque(pool.submit(work, piece, stop) for piece in islice(pieces, AHEAD * workers))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(work, piece, stop) for piece in islice(pieces, 1))
        finally:
            stop.set()
            torch.set_num_threads(threads)
