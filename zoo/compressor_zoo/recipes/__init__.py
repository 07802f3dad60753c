"""Recipes: TOML files that say how a network is trained, each number with its source.

A file with a ``[when]`` table applies by itself to every run that meets all of its conditions (``data``, ``method``,
``teacher``, ``student``; each a pattern or a list of patterns); an empty table always does. The more conditions, the
stronger. A file without ``[when]`` is asked for with ``--recipe NAME``, and may build on others through ``extends``.
Whatever the user writes wins over all of them; `compressor.config.layers` puts the layers in order.
"""
