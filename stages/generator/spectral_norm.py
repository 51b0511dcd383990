"""Spectral normalisation (Miyato et al. 2018). Importing this imports Keras."""

from __future__ import annotations

from stages.training.tensorflow import keras, tf


class SpectralNormalization(keras.layers.SpectralNormalization):
    """Divides the output of a linear layer by the largest singular value of its weights, which one step of the power
    method per training call estimates.

    Keras' own layer overwrites the weights with the normalised ones. This one normalises in the forward pass, as in the
    paper: gradients pass through the singular value, and in bfloat16 the weights keep their float32 precision.
    """

    def __init__(self, layer, **options):
        # Without autocast the weights, and therefore the singular value, are float32 in any policy.
        super().__init__(layer, autocast=False, **options)

    def call(self, inputs, training=False):
        kernel = tf.reshape(self.kernel.value, [-1, self.kernel.shape[-1]])
        u = self.vector_u.value  # [1, outputs]
        fixed = tf.stop_gradient(kernel)
        v = tf.math.l2_normalize(tf.matmul(u, fixed, transpose_b=True))
        if training:
            u = tf.math.l2_normalize(tf.matmul(v, fixed))
            self.vector_u.assign(u)
        largest = tf.reduce_sum(tf.matmul(v, kernel) * u)
        outputs = self.layer(inputs)
        return outputs / tf.cast(tf.maximum(largest, 1e-12), outputs.dtype)
