"""What a search cannot compare, or the stages would not take, is refused before anything runs."""

import pytest

from ops.search.checks import check_together
from ops.search.objectives import Objective
from ops.search.space import parse_space
from stages.running.terminal import UserError

FD = Objective("gan.val_fd", "minimise")
ACCURACY = Objective("cnn.val_accuracy", "maximise")


@pytest.mark.parametrize(
    ("words", "objectives", "prune", "sentence"),
    [
        ([], [FD], None, "expected at least one -S"),
        (["gan.lr=1e-4,1e-3"], [], None, "expected at least one -S"),
        (["gan.lr=1e-4,1e-3"], [FD, FD], None, "an objective is given twice"),
        (["gan.lr=log(1e-4,2)"], [FD], None, r"`gan.lr` is 2.0: input should be less than or equal to 1 \(with gan.lr"),
        (["gan.width=int(2,64)"], [FD], None, r"`gan.width` is 2: input should be greater than or equal to 4"),
        (["gan.loss=hinge,hunge"], [FD], None, "`gan.loss` is 'hunge'"),
        (["gan.steps=500,many"], [FD], None, "`gan.steps` is 'many'"),
        (["gan.real_label=float(0.8,0.9)"], [FD], None, r"real_label works with the losses bce and lsgan only"),
        (["gan.loss=bce,hinge", "gan.real_label=0.9,1"], [FD], None, r"with gan.loss=hinge, gan.real_label=0.9"),
        (["cnn.lr=1e-3,1e-2"], [FD], None, "cnn.lr changes none of the objectives"),
        (["ingest.val_fraction=0.1,0.2"], [ACCURACY], None, "decides which images the trials are measured on"),
        (["ingest.image_size=16,32"], [FD], None, "changes how gan.val_fd is measured"),
        (["gan.evaluate_images=int(100,200)"], [FD], None, "changes how gan.val_fd is measured"),
        (["gan.lr=1e-4,1e-3"], [FD, Objective("gan.steps", "minimise")], None, "the same in every trial"),
        (["gan.steps=500,900"], [Objective("gan.steps", "minimise")], None, "an objective only together with a metric"),
        (["gan.loss=bce,hinge"], [FD, Objective("gan.loss", "minimise")], None, "not all of its values are numbers"),
        (["gan.lr=1e-4,1e-3"], [FD, ACCURACY], "median", "--prune needs a single objective"),
        (["cnn.lr=1e-4,1e-3"], [Objective("cnn.weights", "minimise")], "median", "measured while a network trains"),
    ],
)
def test_what_cannot_be_compared_or_is_not_allowed_is_one_sentence(project, words, objectives, prune, sentence):
    with pytest.raises(UserError, match=sentence):
        check_together(parse_space(words), objectives, prune)


@pytest.mark.parametrize(
    ("words", "objectives"),
    [
        (["gan.lr=log(1e-4,1e-2)", "gan.width=32,48,64"], [FD]),
        (["gan.loss=bce,lsgan", "gan.real_label=float(0.8,1)"], [FD]),
        (["gan.steps=log(500,8000)"], [FD, Objective("gan.steps", "minimise")]),
        (["ingest.image_size=null,16,32", "augment.rotation=float(0,30)", "cnn.test_views=none,shift"], [ACCURACY]),
        (["cnn.width=16,32", "gan.width=32,48"], [FD, ACCURACY]),
        (["gan.diff_augment=[],[translation],[translation,cutout]", "gan.discriminator_lr=null,1e-3"], [FD]),
        ([f"cnn.{name}=float(0,0.5)" for name in ("momentum", "weight_decay", "mixup", "cutmix")], [ACCURACY]),
    ],
)
def test_what_the_stages_take_is_accepted(project, words, objectives):
    space = parse_space(words)
    check_together(space, objectives, None)  # raises when anything is refused
    assert list(space) == [word.partition("=")[0] for word in words]


def test_many_ranges_are_checked_without_trying_all_combinations(project):
    names = ["width", "depth", "epochs", "batch_size", "frozen_epochs", "patience", "seed", "backbone_size"]
    numbers = ["lr", "beta_2", "momentum", "weight_decay", "label_smoothing", "mixup", "average"]
    words = [f"cnn.{name}=int(33,44)" for name in names] + [f"cnn.{name}=float(0.1,0.2)" for name in numbers]
    check_together(parse_space(words), [ACCURACY], None)
    with pytest.raises(UserError, match=r"`cnn\.mixup` is 20"):
        check_together(parse_space([*words[:-2], "cnn.mixup=float(0,20)", words[-1]]), [ACCURACY], None)


def test_a_wrong_params_file_is_told_of(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("depth: 1 ", "depth: 0 "))
    with pytest.raises(UserError, match=r"params\.yaml: `cnn\.depth` is 0"):
        check_together(parse_space(["cnn.lr=1e-3,1e-2"]), [ACCURACY], None)
