"""promotion.yaml: what is wrong in it is named."""

import pytest
import yaml

from ops.promote.gate.policy import POLICY, classifier_policy, generator_policy
from stages.running.terminal import UserError
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("cnn", "main", "ece", "`cnn.main` is 'ece': input should be 'accuracy', 'macro_f1' or 'nll'"),
        ("cnn", "levle", 0.05, "`cnn.levle` is not a param"),
        ("cnn", "guards", {"fid": 1}, "fid"),
        ("cnn", "guards", {"nll": 0}, "`cnn.guards.nll` is 0: input should be greater than 0"),
        ("gan", "permutations", 500, "`gan`: permutations must be at least 1 / level"),
        ("gan", "floors", {"precision": 2}, "`gan.floors.precision` is 2"),
    ],
)
def test_a_wrong_policy_is_named(tmp_path, section, key, value, says):
    policy = yaml.safe_load((ROOT / POLICY).read_text())
    policy[section][key] = value
    if key == "permutations":
        policy[section]["level"] = 0.001
    (tmp_path / "promotion.yaml").write_text(yaml.safe_dump(policy))
    read = classifier_policy if section == "cnn" else generator_policy
    with pytest.raises(UserError) as raised:
        read(tmp_path / "promotion.yaml")
    assert says in str(raised.value)
