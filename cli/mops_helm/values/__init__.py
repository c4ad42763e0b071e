"""A values file as data: read with positions, merged as Helm does, checked, explained, converted.

files and --set flags -> load.py, sets.py -> layers -> merge.py -> Merged -> check.py -> findings
"""
