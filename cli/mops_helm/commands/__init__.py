"""The commands, a module for each group: parse, call one function, print.

Heavy packages are imported inside a command, so that `--help` is fast.
"""
