"""Modes of asking an LLM for per-label probabilities, one file each: logprob, verbalized, vote, label."""
