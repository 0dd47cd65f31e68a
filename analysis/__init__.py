"""Pure numerics: pass@k, buckets, intervals over questions and seeds, paired tests, Shapley values.

No files, no clock, no global state.
"""
