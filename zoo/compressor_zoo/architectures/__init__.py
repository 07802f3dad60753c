"""One file per family of networks; `base.py` holds what they share."""
