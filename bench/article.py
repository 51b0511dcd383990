"""A typical tutorial's classifier: Keras `fit`, batches of 32, Adam, float arrays in memory."""

import time

import numpy as np

BATCH_SIZE = 32


def build(shape: tuple[int, int, int], classes: int):
    """A compiled network from images float32 [n, *shape], 0 to 1, to probabilities."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    seed: int,
    epochs: int | None = None,
    seconds: float | None = None,
) -> list[tuple[float, float]]:
    """Trains on images uint8 [n, h, w, c]; returns the seconds of training and test accuracy after each epoch. Stops
    after `epochs`, or after the first epoch that ends later than `seconds`."""
    import keras

    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype("float32") / 255, labels[order]
    test_images = test_images.astype("float32") / 255
    rows: list[tuple[float, float]] = []
    test_seconds = 0.0  # excluded from the training time
    start = time.perf_counter()
    model = build(images.shape[1:], int(labels.max()) + 1)

    def test(epoch, logs):
        nonlocal test_seconds
        before = time.perf_counter()
        predicted = model.predict(test_images, batch_size=512, verbose=0).argmax(axis=1)
        rows.append((before - start - test_seconds, float((predicted == test_labels).mean())))
        test_seconds += time.perf_counter() - before
        model.stop_training = len(rows) == epochs or (seconds is not None and rows[-1][0] >= seconds)

    callback = keras.callbacks.LambdaCallback(on_epoch_end=test)
    model.fit(images, labels, batch_size=BATCH_SIZE, epochs=10**6, verbose=0, callbacks=[callback])
    return rows
