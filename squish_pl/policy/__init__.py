"""The policy: one backbone with its adapter on and off, prompts, rollouts, the two ways, what fits into memory."""
