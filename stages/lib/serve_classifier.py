"""The registered classifier as MLflow loads it (a "model from code"): uint8 images in, class probabilities out.

It is copied into the registered model and imports nothing of this project.
"""

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Classifier(PythonModel):
    """uint8 [n, height, width, channels] -> float64 [n, classes], rows that add up to 1.

    The tag `classes` of the model version names the columns.
    """

    def load_context(self, context):
        import keras

        self.network = keras.models.load_model(context.artifacts["model"], compile=False, safe_mode=True)

    def predict(self, context, model_input, params=None):
        images = np.asarray(model_input)
        expected = list(self.network.input_shape[1:])
        if images.dtype != np.uint8 or list(images.shape[1:]) != expected:
            raise ValueError(f"expected uint8 images [n, {expected}], got {images.dtype} {list(images.shape)}")
        logits = self.network.predict(images, batch_size=512, verbose=0).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


set_model(Classifier())
