"""Where the images of a data set come from."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from stages.lib.dataset import require


def read_origins(folder: str | Path, split: str) -> list[str]:
    """The paths inside the data set, in the order of the split's shards."""
    path = Path(folder) / "manifest.parquet"
    require(path)
    table = pq.read_table(path, columns=["split", "source", "reason"])
    kept = (table["split"].to_numpy(zero_copy_only=False) == split) & table["reason"].is_null().to_numpy()
    return table["source"].take(np.flatnonzero(kept)).to_pylist()
