"""How many threads PyTorch computes with."""

from __future__ import annotations

import torch

ALL = torch.get_num_threads()
"""PyTorch's own choice: one for each core, unless ``OMP_NUM_THREADS`` says otherwise."""


def use_threads(count: int) -> None:
    """Compute with ``count`` threads from here on in the calling thread.

    PyTorch keeps the number for each thread by itself, so this belongs beside the computation. OpenMP's
    threads wait for each other by spinning: on a machine that is busy otherwise, two of them took up to
    forty times as long for a small model as one.
    """
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
