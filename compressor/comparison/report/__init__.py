"""The page of a comparison: one file that needs no network, with every number of its pictures in a table."""
