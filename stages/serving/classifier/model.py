"""The registered classifier as MLflow loads it (a "model from code"): uint8 images in, class probabilities out.

It is copied into the registered model and imports nothing of this project.
"""

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Classifier(PythonModel):
    """uint8 [n, height, width, channels] -> float64 [n, classes], calibrated; each row sums to 1.

    The tag `classes` of the model version names the columns. With the param `outlier_scores` it returns outlier scores
    instead, float64 [n]: a score above 0 means that an image resembles the training images less than most validation
    images do, 95% of them by default.
    """

    def load_context(self, context):
        import keras

        self.network = keras.models.load_model(context.artifacts["model"], compile=False, safe_mode=True)
        self.temperature, self.threshold, self.neighbours, self.bank = 1.0, None, 0, np.zeros((0, 0))
        if "serving" in context.artifacts:  # see stages/serving/classifier/bundle.py of the project
            with np.load(context.artifacts["serving"], allow_pickle=False) as file:
                self.temperature, self.threshold = float(file["temperature"]), float(file["threshold"])
                self.neighbours, self.bank = int(file["neighbours"]), file["bank"].astype(np.float64)
        if len(self.bank):
            # A network that averages over views contains the network that it applies to each view.
            networks = [self.network, *(layer for layer in self.network.layers if isinstance(layer, keras.Model))]
            trunk = next(each for each in networks if any(layer.name == "features" for layer in each.layers))
            self.feature_network = keras.Model(trunk.input, trunk.get_layer("features").output)

    def predict(self, context, model_input, params=None):
        images = np.asarray(model_input)
        expected = list(self.network.input_shape[1:])
        if images.dtype != np.uint8 or list(images.shape[1:]) != expected:
            raise ValueError(f"expected uint8 images [n, {expected}], got {images.dtype} {list(images.shape)}")
        if (params or {}).get("outlier_scores"):
            return self.outlier_scores(images)
        logits = self.logits(images) / self.temperature
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def logits(self, images):
        return self.network.predict(images, batch_size=512, verbose=0).astype(np.float64)

    def outlier_scores(self, images):
        if self.threshold is None:
            raise ValueError("this version was registered without a threshold for outlier scores")
        if not len(self.bank):  # the energy of the logits
            logits = self.logits(images)
            highest = logits.max(axis=1)
            return -highest - np.log(np.exp(logits - highest[:, None]).sum(axis=1)) - self.threshold
        features = self.feature_network.predict(images, batch_size=512, verbose=0).astype(np.float64)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        k = min(self.neighbours, len(self.bank)) - 1
        cosines = -np.partition(-features @ self.bank.T, k, axis=1)[:, k]
        return np.sqrt(np.maximum(2 - 2 * cosines, 0)) - self.threshold


set_model(Classifier())
