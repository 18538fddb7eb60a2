"""A page to try the score on: a model that scores and writes, behind a small server."""
