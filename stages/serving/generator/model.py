"""The registered generator as MLflow loads it (a "model from code"): classes and seeds in, uint8 images out.

It is copied into the registered model and imports nothing of this project. `visionloop generate` runs the same code.
"""

import json
from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

# Images are always computed in batches of this size: a matrix product sums one row in another order than many rows, so
# that an image computed by itself could differ by a grey level.
BATCH = 16


class Generator(PythonModel):
    """A table with the columns `class` (name) and `seed` (integer) -> uint8 [rows, height, width, channels].

    The image of a row depends only on its class and seed. The param `truncation`, 0 to 1, trades variety for typical
    images; 1 is off.
    """

    def load_context(self, context):
        import keras

        self.network = keras.models.load_model(context.artifacts["generator"], compile=False, safe_mode=True)
        self.classes = json.loads(Path(context.artifacts["classes"]).read_text(encoding="utf-8"))

    def predict(self, context, model_input, params=None):
        unknown = sorted(set(model_input["class"]) - set(self.classes))
        if unknown:
            raise ValueError(f"no such class: {', '.join(unknown)}; this generator knows {', '.join(self.classes)}")
        labels = np.array([self.classes.index(name) for name in model_input["class"]], np.int32)
        truncation = (params or {}).get("truncation")
        return self.images(self.latents(model_input["seed"], 1.0 if truncation is None else truncation), labels)

    def latents(self, seeds, truncation=1.0):
        """Standard normal float32 [n, latent_dim], each drawn with its seed, times `truncation`: the truncation trick
        of Karras et al. (2019), with a mean latent of 0."""
        if not 0 <= truncation <= 1:
            raise ValueError(f"truncation is {truncation}: expected 0 to 1")
        latent_dim = self.network.input_shape[0][1]
        drawn = np.stack([np.random.default_rng(int(seed)).standard_normal(latent_dim) for seed in seeds])
        return (truncation * drawn).astype(np.float32)

    def images(self, latents, labels):
        """uint8 [n, height, width, channels] for latents float32 [n, latent_dim] and labels int32 [n]."""
        count = len(labels)
        filled = -(-count // BATCH) * BATCH
        inputs = [np.resize(latents, (filled, latents.shape[1])), np.resize(labels, filled)]
        images = self.network.predict(inputs, batch_size=BATCH, verbose=0)[:count]
        return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


set_model(Generator())
