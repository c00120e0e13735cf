"""The tables of a LeRobotDataset v3.0: what Hugging Face's readers expect of schema, instructions and images."""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def table_schema(arrow: Any, features: Mapping[str, Any]) -> Any:
    """Return the schema of the tables, with what Hugging Face's readers look for in it."""
    fields: list[Any] = []
    described: dict[str, Any] = {}
    for name, feature in features.items():
        dtype, width = feature["dtype"], feature["shape"][0]
        if dtype == "image":
            kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
            described[name] = {"_type": "Image"}
        elif dtype == "video":
            continue
        elif width == 1:
            kind = arrow.bool_() if dtype == "bool" else getattr(arrow, dtype)()
            described[name] = {"dtype": dtype, "_type": "Value"}
        else:
            kind = arrow.list_(arrow.float32(), width)
            value = {"dtype": dtype, "_type": "Value"}
            described[name] = {"feature": value, "length": width, "_type": "List"}
        fields.append(arrow.field(name, kind))
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return arrow.schema(fields, metadata=metadata)


def task_table(arrow: Any, tasks: Mapping[str, int]) -> Any:
    """Return ``tasks.parquet``; without naming its index column, LeRobot reads row numbers as instructions."""
    columns = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": numpy,
            "metadata": None,
        }
        for name, kind, numpy in (
            ("task_index", "int64", "int64"),
            ("task", "unicode", "object"),
        )
    ]
    labels = {
        "name": None,
        "field_name": None,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": {"encoding": "UTF-8"},
    }
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [labels],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": arrow.__version__},
        "pandas_version": "2.3.3",
    }
    schema = arrow.schema(
        [("task_index", arrow.int64()), ("task", arrow.string())],
        metadata={"pandas": json.dumps(pandas)},
    )
    return arrow.table({"task_index": list(tasks.values()), "task": list(tasks)}, schema)


def png_array(arrow: Any, frames: NDArray[np.uint8]) -> Any:
    """Return a column of frames [F, height, width, 3] as PNG, without loss."""
    return arrow.array([{"bytes": _png(frame), "path": None} for frame in frames])


def _png(frame: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(file, "PNG")
    return file.getvalue()
