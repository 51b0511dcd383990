"""The speed at which this machine computes only the convolutions of a network: the upper bound for its training."""

import statistics
import time

from stages.training.tensorflow import keras, tf

REPEATS, CALLS = 5, 20


def convolution_seconds(network, batch_size: int) -> float:
    """Seconds for only the convolutions of one training step, in the dtype of each layer: forward, and the gradients of
    the kernel and, except for the first layer, of the input."""
    return sum(_seconds(layer, batch_size, of_input=index > 0) for index, layer in enumerate(_convolutions(network)))


def flops_per_image(network) -> int:
    """Floating-point operations of the convolutions in training on one image: two per multiply-add, forward and for
    both gradients, except the gradient of the first layer's input."""
    total = 0
    for index, layer in enumerate(_convolutions(network)):
        _, height, width, _ = layer.output.shape
        total += 2 * height * width * int(tf.size(layer.kernel)) * (3 if index else 2)
    return total


def _convolutions(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]


def _seconds(layer, batch_size: int, of_input: bool) -> float:
    """The median seconds of one layer over several measurements."""
    images = tf.cast(tf.random.normal([batch_size, *layer.input.shape[1:]]), layer.compute_dtype)
    kernel, padding = tf.cast(layer.kernel, layer.compute_dtype), layer.padding.upper()

    @tf.function
    def run():
        weights, total = kernel, tf.zeros([])
        for _ in tf.range(CALLS):
            with tf.GradientTape() as tape:
                tape.watch([weights, images])
                outputs = tf.nn.conv2d(images, weights, layer.strides, padding)
            gradients = tape.gradient(outputs, [weights, images] if of_input else [weights], output_gradients=outputs)
            weights += 0 * gradients[0]  # prevents the compiler from removing repetitions
            total += sum(tf.cast(tf.reshape(gradient, [-1])[0], tf.float32) for gradient in gradients)
        return total

    run().numpy()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run().numpy()
        times.append((time.perf_counter() - start) / CALLS)
    return statistics.median(times)
