"""Writes all augmented versions of the train split."""

import shutil
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from stages.augmentation.view_shard import Recipe, ViewShard, write_view_shard
from stages.core.dataset import open_shards, shard_paths
from stages.running.parallel import ordered_map
from stages.running.terminal import Progress

SMALL = 2**26  # bytes: so few are written before worker processes would have started


def write_views(data: Path, output: Path, *, views: int, recipe: Recipe, seed: int, workers: int | None = None) -> None:
    """Writes `view-00`, `view-01`, ... of the train split of `data` below `output`, each with the same shards.

    The bytes are the same for any number of workers (see ordered_map).
    """
    shards = open_shards(data, "train")
    paths = [path.absolute() for path in shard_paths(data, "train")]
    firsts = np.cumsum([0, *map(len, shards)]).tolist()
    # Shards move from here to their places, which hold complete ones only.
    scratch = Path(tempfile.mkdtemp(prefix=".", dir=output)).absolute()
    tasks = [
        ViewShard(str(path), str(scratch), first, view)
        for view in range(views)
        for path, first in zip(paths, firsts, strict=False)
    ]
    small = views * sum(shard.nbytes for shard in shards) <= SMALL
    written = ordered_map(partial(write_view_shard, recipe=recipe, seed=seed), tasks, 1 if small else workers)
    with closing(written), Progress("augment", total=len(tasks), unit="shards") as bar:
        for (source, _, _, view), path in zip(tasks, written, strict=True):
            folder = output / f"view-{view:02d}"
            folder.mkdir(exist_ok=True)
            Path(path).replace(folder / Path(source).name)
            bar.advance()
    shutil.rmtree(scratch)
