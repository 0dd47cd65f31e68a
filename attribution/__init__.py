"""Retraining on subsets and what it shows: arms, the trainer, the visit ledger, effects."""
