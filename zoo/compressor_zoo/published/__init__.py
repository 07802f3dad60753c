"""Published accuracies: one JSON file a table, with its source and the rule by which its epochs were chosen.

A published number is never a measured one; what this project measured lies in `compressor_zoo.records`.
"""
