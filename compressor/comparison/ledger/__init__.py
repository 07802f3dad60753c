"""The ledger: what others published, what was measured here, and whether measuring again gives the same."""
