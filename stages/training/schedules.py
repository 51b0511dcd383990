"""Learning-rate schedules: functions from progress (0 at the first step, 1 at the last) to a factor of the peak rate.

They work on floats and on TensorFlow scalars.
"""

from typing import Literal, get_args

from stages.training.tensorflow import tf

Schedule = Literal["one_cycle", "cosine", "constant", "linear_tail"]


def learning_rate_factor(schedule: Schedule, progress):
    """The factor in [0, 1] for `progress` in [0, 1]; a float or a float32 scalar.

    one_cycle     linear from 0 to 1 over the first fifth, then linear to 0 (Smith & Topin 2018)
    cosine        half a cosine from 1 to 0 (Loshchilov & Hutter 2017)
    constant      1
    linear_tail   1 for the first half, then linear to 0.05
    """
    progress = tf.cast(progress, tf.float32)
    if schedule == "one_cycle":
        return tf.minimum(progress / 0.2, (1.0 - progress) / 0.8)
    if schedule == "cosine":
        return 0.5 * (1.0 + tf.cos(3.14159265 * progress))
    if schedule == "constant":
        return tf.ones_like(progress)
    if schedule == "linear_tail":
        return 1.0 - 0.95 * tf.maximum(0.0, 2.0 * progress - 1.0)
    raise ValueError(f"schedule {schedule!r}, expected one of {', '.join(get_args(Schedule))}")
