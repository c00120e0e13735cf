"""Images that lie in the rows of parquet files, as PNG or JPEG: read by row group, decoded one by one."""

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pi0.ript.datasets.parquet import COPY_AGAIN, damage_named, open_parquet

CACHE_BYTES = 2**30  # of row groups, images still compressed
MOST_OPEN = 16

_Key = tuple[Path, str, int]


class StoredImages:
    """Reads images of many files; the row groups used last stay in memory."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, Any] = OrderedDict()
        self._groups: OrderedDict[_Key, list[bytes]] = OrderedDict()
        self._num_bytes = 0

    def read(self, path: Path, column: str, row: int) -> NDArray[np.uint8]:
        """Return the image of a row, uint8 [height, width, 3].

        Raises:
            ValueError: The file is damaged, or the row holds no image.
        """
        group, first = self._place(path, row)
        data = self._group(path, column, group)[row - first]
        try:
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path}: column {column} holds no image in row {row} ({reason:.80}); {COPY_AGAIN}"
            ) from None

    def _place(self, path: Path, row: int) -> tuple[int, int]:
        """Return the row group of a row, and that group's first row."""
        metadata, first = self._file(path).metadata, 0
        for group in range(metadata.num_row_groups):
            length = metadata.row_group(group).num_rows
            if row < first + length:
                return group, first
            first += length
        raise AssertionError(f"{path} has {first} rows, row {row} was asked for")

    def _group(self, path: Path, column: str, group: int) -> list[bytes]:
        key = (path, column, group)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        self._groups[key] = images = self._read_group(path, column, group)
        self._num_bytes += sum(map(len, images))
        while self._num_bytes > CACHE_BYTES and len(self._groups) > 1:
            self._num_bytes -= sum(map(len, self._groups.popitem(last=False)[1]))
        return images

    def _read_group(self, path: Path, column: str, group: int) -> list[bytes]:
        with damage_named(path):
            table = self._file(path).read_row_group(group, columns=[column])
        rows = [(row or {}).get("bytes") for row in table[column].to_pylist()]
        images = [row for row in rows if isinstance(row, bytes)]
        if len(images) < len(rows):
            raise ValueError(
                f"{path}: column {column} holds paths instead of images; embed them with LeRobot's own converter"
            )
        return images

    def _file(self, path: Path) -> Any:
        file = self._files.pop(path, None) or open_parquet(path)
        self._files[path] = file
        while len(self._files) > MOST_OPEN:
            self._files.popitem(last=False)[1].close()
        return file
