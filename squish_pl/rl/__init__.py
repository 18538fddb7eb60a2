"""Learning: rewards, advantages, experience, losses as pure functions; the learner, the optimiser, the figures."""
