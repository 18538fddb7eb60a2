"""Who picks the best adapter is said truly."""

from types import SimpleNamespace

from squish_pl.callbacks.about import judge
from squish_pl.lm.loading import BaseModel
from squish_pl.rl.validation import ValidationSettings


def test_the_judge_is_named():
    plain = SimpleNamespace(validation=ValidationSettings())
    audited = SimpleNamespace(validation=ValidationSettings(audit=BaseModel("Qwen/Qwen3-0.6B-Base")))
    assert "measured by the model that gives the reward" in judge(plain, "val/squish")
    assert "val/audit_squish, measured by Qwen3-0.6B-Base, which gives no reward" in judge(audited, "val/audit_squish")
    # an audit that is not asked does not judge
    assert "measured by the model that gives the reward" in judge(audited, "val/squish")
