"""The small model computes on one thread, a checkpoint on all that PyTorch would take."""

from __future__ import annotations

import threading

import numpy as np
import torch

from clap_server.clap import threads
from clap_server.clap.builtin import load_builtin


def test_number_of_threads_holds_where_the_model_computes() -> None:
    model = load_builtin("cpu")
    window = np.zeros(48_000, np.float32)
    seen = []

    def work() -> None:
        torch.set_num_threads(3)
        model.embed_audio([window])
        seen.append(torch.get_num_threads())
        torch.set_num_threads(3)
        model.embed_text(["glass"])
        seen.append(torch.get_num_threads())
        threads.use_threads(threads.ALL)
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1, 1, threads.ALL]
