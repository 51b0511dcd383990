"""stages.training.loop: order, reports and resume of the training loop."""

from itertools import chain

import numpy as np
import pytest

from stages.running.terminal import UserError
from stages.training import loop as training
from stages.training.loop import steps_per_epoch, train
from stages.training.step import Step
from stages.training.tensorflow import tf


def shards_of(*sizes: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images that carry their number in two pixels, and labels that can be told from it."""
    number = np.arange(sum(sizes))
    images = np.stack([number % 256, number // 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)
    return np.split(images, np.cumsum(sizes)[:-1]), (7 * number % 11).astype(np.int32)


class Recorder(Step):
    """A step that keeps the numbers of the images it sees, and whose weight depends on their order."""

    metrics = ("index", "number")

    def __init__(self, fail_at: int = -1):
        self.weight = tf.Variable(1.0)
        self.seen: list[list[int]] = []
        self.labels: list[list[int]] = []
        self.fail_at = fail_at

    @property
    def variables(self):
        return [self.weight]

    @property
    def variants(self):
        return [self.count]

    def count(self, images, labels, index):
        pixels = tf.cast(images[:, 0, :, 0], tf.float32)
        numbers = pixels[:, 0] + 256 * pixels[:, 1]
        tf.numpy_function(self.record, [numbers, labels], [])
        noise = tf.random.stateless_normal([], seed=tf.stack([3, index]))
        self.weight.assign(0.9 * self.weight + 1e-3 * tf.reduce_mean(numbers) + 0.1 * noise)
        bad = tf.where(tf.equal(index, self.fail_at), np.nan, 0.0)
        return tf.cast(index, tf.float32), tf.reduce_mean(numbers) + bad

    def record(self, numbers, labels) -> None:
        self.seen.append(numbers.astype(int).tolist())
        self.labels.append(labels.tolist())


def run(step, shards, labels, batch_size=4, steps=20, report_every=5, seed=0):
    options = {"batch_size": batch_size, "steps": steps, "report_every": report_every, "seed": seed}
    return list(train(step, lambda epoch: shards, labels, **options, label="toy", divergence_hint="lower toy.lr"))


def test_only_the_images_of_the_next_steps_are_read(monkeypatch):
    monkeypatch.setattr(training, "STEPS_PER_CALL", 3)
    pick, read = training.pick, []

    def watched(shards, positions):
        read.append(len(positions))
        return pick(shards, positions)

    monkeypatch.setattr(training, "pick", watched)
    run(Recorder(), *shards_of(30, 30), steps=10)
    assert read == [12, 8, 12, 8]  # steps of four images, a report every five of them


def epochs(step: Recorder, per_epoch: int) -> list[list[int]]:
    return [list(chain(*step.seen[i : i + per_epoch])) for i in range(0, len(step.seen), per_epoch)]


def test_an_epoch_sees_every_image_at_most_once_in_an_order_of_its_own():
    step = Recorder()
    run(step, *shards_of(9, 9, 4), steps=15)
    first, second, third = epochs(step, 5)  # of 22 images, 2 are left over
    for order in (first, second, third):
        assert len(set(order)) == 20
    assert first != second != third
    assert set(first) | set(second) | set(third) == set(range(22))


def test_the_order_is_a_function_of_seed_and_epoch():
    short, long, other = Recorder(), Recorder(), Recorder()
    run(short, *shards_of(9, 9, 4), steps=7)
    run(long, *shards_of(9, 9, 4), steps=20, report_every=20)
    run(other, *shards_of(9, 9, 4), steps=20, seed=1)
    assert short.seen == long.seen[:7]
    assert other.seen[:5] != long.seen[:5]


def test_labels_stay_with_their_images_across_shards():
    shards, labels = shards_of(9, 9, 4, 300)
    step = Recorder()
    run(step, shards, labels, batch_size=16, steps=40)
    assert max(map(max, step.seen)) > 255
    for numbers, given in zip(step.seen, step.labels, strict=True):
        assert given == labels[numbers].tolist()


def test_shards_beyond_a_group_are_read_in_groups(monkeypatch):
    monkeypatch.setattr(training, "SHARDS_AT_A_TIME", 2)
    shards, labels = shards_of(10, 10, 10, 10, 3)
    per_epoch = steps_per_epoch(shards, 4)
    assert per_epoch == 43 // 4 - 2  # three groups, whose leftovers differ with the drawing
    step = Recorder()
    reports = run(step, shards, labels, steps=12 * per_epoch, report_every=per_epoch)
    assert [report.epoch for report in reports] == list(range(1, 13))
    assert len(step.seen) == 12 * per_epoch
    for order in epochs(step, per_epoch):
        assert len(order) == len(set(order)) == 4 * per_epoch
    # A group is two shards that are drawn anew in each epoch, so the first batches mix exactly two shards.
    partners = {frozenset(number // 10 for number in chain(*step.seen[i : i + 3])) for i in range(0, 96, per_epoch)}
    assert all(len(pair) <= 2 for pair in partners)
    assert len(partners) > 3
    assert set(chain(*step.seen)) == set(range(43))
    for numbers, given in zip(step.seen, step.labels, strict=True):
        assert given == labels[numbers].tolist()


def test_each_epoch_reads_its_own_shards():
    shards, labels = shards_of(8)
    step = Recorder()
    views = [shards, [255 - shards[0]]]
    for _ in train(
        step,
        lambda epoch: views[epoch % 2],
        labels,
        batch_size=8,
        steps=3,
        report_every=1,
        seed=0,
        label="toy",
        divergence_hint="",
    ):
        pass
    assert sorted(step.seen[0]) == sorted(step.seen[2]) == list(range(8))
    assert sorted(step.seen[1]) == [255 - k + 256 * 255 for k in reversed(range(8))]


@pytest.mark.parametrize("report_every", [1, 5, 7, 16, 100])
def test_reports_come_at_their_steps_with_the_means_since(report_every):
    step = Recorder()
    reports = run(step, *shards_of(40), steps=23, report_every=report_every)
    ends = [*range(report_every, 23, report_every), 23]
    assert [report.step for report in reports] == ends
    for start, report in zip([0, *ends], reports, strict=False):
        assert report.epoch == pytest.approx(report.step / 10)
        assert report.means["index"] == pytest.approx((start + report.step - 1) / 2)
        assert report.means["number"] == pytest.approx(np.mean(step.seen[start : report.step]), rel=1e-6)


@pytest.mark.parametrize("steps_per_call", [1, 3, 16])
def test_weights_do_not_depend_on_how_steps_are_called(monkeypatch, steps_per_call):
    whole, parts = Recorder(), Recorder()
    run(whole, *shards_of(30, 12), steps=33, report_every=33)
    monkeypatch.setattr(training, "STEPS_PER_CALL", steps_per_call)
    run(parts, *shards_of(30, 12), steps=33, report_every=10)
    assert parts.seen == whole.seen
    assert parts.weight.numpy().tobytes() == whole.weight.numpy().tobytes()


def test_fewer_images_than_a_batch():
    with pytest.raises(UserError, match="toy has 3 training images, fewer than one batch of 4: lower the batch size"):
        run(Recorder(), *shards_of(2, 1))


def test_a_loss_that_is_not_finite_names_itself_and_the_param_to_blame():
    step = Recorder(fail_at=6)
    with pytest.raises(UserError, match=r"^number became NaN or infinite by step \d+ of 20: lower toy.lr$"):
        run(step, *shards_of(40))
    assert len(step.seen) < 20


def test_the_caller_may_stop_early():
    step = Recorder()
    reports = train(
        step,
        lambda epoch: shards_of(40)[0],
        shards_of(40)[1],
        batch_size=4,
        steps=1000,
        report_every=5,
        seed=0,
        label="toy",
        divergence_hint="",
    )
    assert next(reports).step == 5
    reports.close()  # type: ignore[attr-defined]
    assert len(step.seen) == 5
