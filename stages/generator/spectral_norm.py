"""Spectral normalisation (Miyato et al. 2018). Importing this imports Keras."""

from __future__ import annotations

from stages.training.tensorflow import keras, tf


class SpectralNormalization(keras.layers.SpectralNormalization):
    """Divides the output of a linear layer by the largest singular value of its weights, as one step of the power
    method a training call estimates it.

    Keras' own overwrites the weights with the divided ones. Here they are divided as in the paper, in the forward pass:
    gradients pass through the singular value, and in bfloat16 the weights keep their float32 digits.
    """

    def __init__(self, layer, **options):
        # Without autocast the weights, and so the singular value, are read as float32 in any policy.
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
