"""A causal language model taken apart: loading, hidden states, log-probs, tokens, memory. No word of summaries."""
