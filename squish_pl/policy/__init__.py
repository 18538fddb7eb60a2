"""The policy: one backbone with its adapter on and off, prompts, rollouts and log-probs."""

from squish_pl.policy.backbone import Backbone, LoraSettings
from squish_pl.policy.grouped import choose_policy_pass
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings, sample

__all__ = ["Backbone", "LoraSettings", "PromptTemplate", "SamplingSettings", "choose_policy_pass", "sample"]
