"""The registered generator as MLflow loads it (a "model from code"): classes and seeds in, uint8 images out.

It is copied into the registered model and imports nothing of this project.
"""

import json
from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Generator(PythonModel):
    """A table with the columns `class` (name) and `seed` (integer) -> uint8 [rows, height, width, channels].

    A row's image depends on its class and seed alone.
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
        latent_dim = self.network.input_shape[0][1]
        latents = np.stack([np.random.default_rng(int(s)).standard_normal(latent_dim) for s in model_input["seed"]])
        images = self.network.predict([latents.astype(np.float32), labels], batch_size=512, verbose=0)
        return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


set_model(Generator())
