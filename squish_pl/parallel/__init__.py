"""Several processes on one run: what they exchange, and how they end together. Imports nothing above it."""
