"""A stand-in for the audio teacher: a class is as loud as one of its mel bands."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.distil import CLOSE
from training.teacher import CLASSES, MODEL

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (*CLOSE, "Speech", "Music", "Rain")
_BANDS = 128


def write_teacher(folder: Path) -> Path:
    """Write a model and its classes as the real teacher's come."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CLASSES).open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["index", "mid", "display_name"])
        writer.writerows([number, f"/m/{number}", name] for number, name in enumerate(NAMES))
    weights = np.zeros((_BANDS, len(NAMES)), np.float32)
    for number in range(len(NAMES)):
        weights[number * 3 : number * 3 + 3, number] = 1.5
    nodes = [
        helper.make_node("ReduceMean", ["spec", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("spec", TensorProto.FLOAT, ["b", 1, _BANDS, "t"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", len(NAMES)])],
        [
            numpy_helper.from_array(np.array([1, 3], np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / MODEL)
    return folder
