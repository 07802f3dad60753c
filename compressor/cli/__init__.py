"""The command line: a command parses, calls one function and prints; it decides nothing.

Importing any module here is cheap: torch, timm and pydantic are imported inside the commands that need them.
"""
