"""The policy: one backbone with its adapter on and off, prompts, rollouts and log-probs."""

from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import SamplingSettings, sample
from squish_pl.policy.way import Compiling, Grouping, choose_compiling, choose_way, completion_log_probs, pass_tokens

__all__ = [
    "Backbone",
    "Compiling",
    "Grouping",
    "LoraSettings",
    "PromptTemplate",
    "SamplingSettings",
    "choose_compiling",
    "choose_way",
    "completion_log_probs",
    "pass_tokens",
    "sample",
]
