"""Where the images of a data set come from."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.lib.dataset import require


def read_origins(folder: str | Path, split: str, positions: np.ndarray) -> list[str]:
    """The paths inside the data set of the images at these positions of the split's shards."""
    path = Path(folder) / "manifest.parquet"
    require(path)
    table = pq.read_table(path, columns=["split", "source", "reason"])
    kept = pc.and_(pc.equal(table["split"], split), pc.is_null(table["reason"]))
    return table["source"].filter(kept).take(pa.array(positions, pa.int64())).to_pylist()
