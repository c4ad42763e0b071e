"""Files that people write, read with the position of every value, and what is wrong with them.

text -> nodes.py: values with file, line and column -> findings.py: a problem at such a position

Does not know what a values file or a study file may contain: mops_helm.values and plan do.
"""
