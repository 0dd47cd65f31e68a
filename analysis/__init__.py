"""Pure numerics: pass@k, intervals, buckets. No files, no clock, no global state."""
