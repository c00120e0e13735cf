"""Columns of parquet files as numpy arrays, with one-line errors that name file and column."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.files import is_there, refuse_stand_in
from pi0.ript.datasets.packages import import_for

COPY_AGAIN = "copy the file again"


def open_parquet(path: Path) -> Any:
    """Return a ``pyarrow.parquet.ParquetFile``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is cut off or no parquet file, or pyarrow is not installed.
    """
    parquet = import_for(path, "pyarrow.parquet")
    if not is_there(path):
        raise FileNotFoundError(f"{path} does not exist; copy the data set again")
    refuse_stand_in(path)
    with damage_named(path):
        file = parquet.ParquetFile(path)
        file.schema_arrow  # noqa: B018 - decodes the names
        return file


def read_columns(file: Any, path: Path, names: Sequence[str]) -> Any:
    """Return a ``pyarrow.Table`` of some columns.

    Raises:
        ValueError: A column is missing, holds nulls or cannot be read.
    """
    require_columns(file, path, names)
    with damage_named(path):
        table = file.read(columns=list(names))
    for name in names:
        if table[name].null_count:
            raise ValueError(
                f"{path}: column {name} has {table[name].null_count} empty values; {COPY_AGAIN}"
            )
    return table


def require_columns(file: Any, path: Path, names: Sequence[str]) -> None:
    """Refuse a file that lacks a column.

    Raises:
        ValueError: Names the column and those that are there.
    """
    there = file.schema_arrow.names
    for name in names:
        if name not in there:
            raise ValueError(
                f"{path}: column {name} is missing, it has {', '.join(there)}; {COPY_AGAIN}"
            )


def numbers(table: Any, path: Path, name: str) -> NDArray[Any]:
    """Return a column of numbers, [F].

    Raises:
        ValueError: It holds something else.
    """
    values = table[name].combine_chunks().to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path}: column {name} must hold numbers, got {table[name].type}")
    return values


def vectors(table: Any, path: Path, name: str, width: int) -> NDArray[np.float64]:
    """Return a column of vectors, float64 [F, width]; lists of fixed size and of any size are read alike.

    Raises:
        ValueError: They have another width, or hold NaN or infinity.
    """
    compute = import_for(path, "pyarrow.compute")
    column = table[name].combine_chunks()
    if "list" not in str(column.type):
        raise ValueError(
            f"{path}: column {name} must hold lists of {width} numbers, got {column.type}"
        )
    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if len(lengths) and not (lengths == width).all():
        other = lengths[lengths != width][0]
        raise ValueError(
            f"{path}: column {name} has lists of {other} numbers, LIBERO's have {width}"
        )
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, width)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(-1))[0])
        raise ValueError(f"{path}: column {name} holds NaN or infinity in row {row}; {COPY_AGAIN}")
    return values


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into one line; nothing of our own may be raised inside."""
    arrow = import_for(path, "pyarrow")
    try:
        yield
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is damaged or no parquet file ({reason:.120}); {COPY_AGAIN}"
        ) from None
