"""Sets that this project wrote, read by LeRobot's own loader: ``lerobot_python tools/peers/lerobot_reads.py SET ...``.

Runs in an environment of LeRobot's (Python 3.12, ``pip install 'lerobot[dataset]==0.6.1'``, 5.8 GB), which knows nothing of
this project. Every frame must hold the row of the table, the instruction and images of the stated size; windows
of actions must end where their episode does.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets.lerobot_dataset import LeRobotDataset

WINDOW = 4
VECTORS = ("observation.state", "action", "next.reward", "next.success", "seed", "initial_state")


def check(folder: Path) -> str:
    """Compare every frame with the tables and return a line about the set."""
    fps = LeRobotDataset("local/set", root=folder).fps
    times = {"action": [number / fps for number in range(WINDOW)]}
    data = LeRobotDataset("local/set", root=folder, delta_timestamps=times)
    rows = [
        row
        for path in sorted(folder.glob("data/*/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    texts = {
        row["task_index"]: row["task"]
        for row in pq.read_table(folder / "meta/tasks.parquet").to_pylist()
    }
    assert len(data) == len(rows) == data.num_frames, (len(data), len(rows))
    for position, row in enumerate(rows):
        item = data[position]
        assert item["task"] == texts[row["task_index"]], (position, item["task"])
        for key in VECTORS:
            found = item[key][0] if key == "action" else item[key]
            assert np.array_equal(
                np.ravel(found.numpy()), np.ravel(np.array(row[key], found.numpy().dtype))
            ), key
        left = sum(
            other["episode_index"] == row["episode_index"]
            for other in rows[position : position + WINDOW]
        )
        assert item["action_is_pad"].tolist() == [number >= left for number in range(WINDOW)]
        for key in data.meta.camera_keys:
            height, width, channels = data.meta.features[key]["shape"]
            assert tuple(item[key].shape) == (channels, height, width), item[key].shape
    statistics = data.meta.stats
    actions = np.array([row["action"] for row in rows], np.float64)
    assert np.allclose(statistics["action"]["mean"], actions.mean(0), atol=1e-6)
    return f"{folder}: {data.num_episodes} episodes, {len(rows)} frames, {len(texts)} tasks, cameras {data.meta.camera_keys}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(check(Path(name)))
