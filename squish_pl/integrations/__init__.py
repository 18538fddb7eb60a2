"""The score as a reward of other libraries: TRL, verifiers (prime-rl), verl, inspect_ai, and plain graders.

    completions, documents, budgets -> summaries -> one frozen reference -> one number for each completion

One file for each library; only that file imports it.
"""
