"""Files written by people, read with the position of every value, and their problems.

text -> nodes.py: values with file, line and column -> findings.py: a problem at such a position

The allowed contents of values files and study files are defined elsewhere: by mops_helm.values and plan.
"""
