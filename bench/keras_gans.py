"""Two GANs in the settings that users copy from keras.io, trained as there: a Keras model with its own `train_step`,
and `fit`, in float32, but not compiled by XLA, which makes them slower on CPUs.

Each function returns a compiled keras.Model to `fit` on images float32 [n, 28, 28, 1] and labels int32 [n], with
`batch_size`, `scale` (from uint8 images to its input) and `draw(latents, labels)` -> uint8 images.
"""

import numpy as np


def conditional_gan():
    """The conditional GAN of keras.io: one-hot labels next to the latents and as channels of the images, BCE."""
    import keras
    import tensorflow as tf

    layers, classes, latent_dim, size = keras.layers, 10, 128, 28
    generator = keras.Sequential(
        [
            keras.Input([latent_dim + classes]),
            layers.Dense(7 * 7 * (latent_dim + classes)),
            layers.LeakyReLU(0.2),
            layers.Reshape([7, 7, latent_dim + classes]),
            layers.Conv2DTranspose(128, 4, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2DTranspose(128, 4, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(1, 7, padding="same", activation="sigmoid"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input([size, size, 1 + classes]),
            layers.Conv2D(64, 3, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(128, 3, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1),
        ]
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizers = {network: keras.optimizers.Adam(3e-4) for network in (generator, discriminator)}

    class ConditionalGan(keras.Model):
        batch_size = 64

        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = generator, discriminator

        def train_step(self, data):
            images, labels = data
            one_hot = tf.one_hot(labels, classes)
            channels = tf.tile(one_hot[:, None, None, :], [1, size, size, 1])
            count = tf.shape(images)[0]

            def sample():
                return generator(tf.concat([tf.random.normal([count, latent_dim]), one_hot], 1), training=True)

            inputs = tf.concat([tf.concat([images, sample()], 0), tf.concat([channels, channels], 0)], -1)
            with tf.GradientTape() as tape:
                logits = discriminator(inputs, training=True)
                d_loss = loss(tf.concat([tf.ones([count, 1]), tf.zeros([count, 1])], 0), logits)
            weights = discriminator.trainable_variables
            optimizers[discriminator].apply(tape.gradient(d_loss, weights), weights)
            with tf.GradientTape() as tape:
                logits = discriminator(tf.concat([sample(), channels], -1), training=True)
                g_loss = loss(tf.ones([count, 1]), logits)
            weights = generator.trainable_variables
            optimizers[generator].apply(tape.gradient(g_loss, weights), weights)
            return {"d_loss": d_loss, "g_loss": g_loss}

        def scale(self, images: np.ndarray) -> np.ndarray:
            return images.astype("float32") / 255

        def draw(self, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
            inputs = np.concatenate([latents, np.eye(classes, dtype="float32")[labels]], axis=1)
            return np.round(255 * generator.predict(inputs, batch_size=512, verbose=0)).astype(np.uint8)

    return _compiled(ConditionalGan(), latent_dim)


def wgan_gp():
    """The WGAN-GP of keras.io, without labels; its interpolation is uniform here, as in the paper."""
    import keras
    import tensorflow as tf

    layers, latent_dim, critic_steps, penalty = keras.layers, 128, 3, 10.0

    def upsample(filters, activation):
        return [
            layers.UpSampling2D(2),
            layers.Conv2D(filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            activation,
        ]

    generator = keras.Sequential(
        [
            keras.Input([latent_dim]),
            layers.Dense(4 * 4 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Reshape([4, 4, 256]),
            *upsample(128, layers.LeakyReLU(0.2)),
            *upsample(64, layers.LeakyReLU(0.2)),
            *upsample(1, layers.Activation("tanh")),
            layers.Cropping2D(2),
        ]
    )
    critic = keras.Sequential(
        [
            keras.Input([28, 28, 1]),
            layers.ZeroPadding2D(2),
            layers.Conv2D(64, 5, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(128, 5, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Conv2D(256, 5, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Conv2D(512, 5, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )
    optimizers = {network: keras.optimizers.Adam(2e-4, 0.5, 0.9) for network in (generator, critic)}

    class WganGp(keras.Model):
        batch_size = 512

        def __init__(self):
            super().__init__()
            self.generator, self.critic = generator, critic

        def train_step(self, data):
            images, _ = data
            count = tf.shape(images)[0]

            def sample():
                return generator(tf.random.normal([count, latent_dim]), training=True)

            weights = critic.trainable_variables
            for _ in range(critic_steps):
                fake = sample()
                with tf.GradientTape() as tape:
                    fractions = tf.random.uniform([count, 1, 1, 1])
                    mixed = fractions * images + (1 - fractions) * fake
                    with tf.GradientTape() as inner:
                        inner.watch(mixed)
                        scores = critic(mixed, training=True)
                    norms = tf.sqrt(tf.reduce_sum(inner.gradient(scores, mixed) ** 2, axis=[1, 2, 3]) + 1e-12)
                    d_loss = tf.reduce_mean(critic(fake, training=True)) - tf.reduce_mean(critic(images, training=True))
                    objective = d_loss + penalty * tf.reduce_mean((norms - 1) ** 2)
                optimizers[critic].apply(tape.gradient(objective, weights), weights)
            with tf.GradientTape() as tape:
                g_loss = -tf.reduce_mean(critic(sample(), training=True))
            weights = generator.trainable_variables
            optimizers[generator].apply(tape.gradient(g_loss, weights), weights)
            return {"d_loss": d_loss, "g_loss": g_loss}

        def scale(self, images: np.ndarray) -> np.ndarray:
            return images.astype("float32") / 127.5 - 1

        def draw(self, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
            generated = generator.predict(latents, batch_size=512, verbose=0)
            return np.clip(np.round(127.5 * (generated + 1)), 0, 255).astype(np.uint8)

    return _compiled(WganGp(), latent_dim)


def _compiled(model, latent_dim: int):
    model.latent_dim = latent_dim
    # Keras compiles by XLA by default: on CPUs, a step of the first then takes twice as long, of the second minutes.
    model.compile(jit_compile=False)
    return model
