"""Where a study is kept: parts written by workers, folded into a state, compacted into tables.

files.py    a folder or any fsspec URL: put, create, read, list
study.py    study.json, spec.json, sets/: what there is to do
parts.py    parts/: what was done, a row per attempt
fold.py     parts -> one state per task
compact.py  parts -> results/, the tables that people read
tables.py   what a model returned -> rows of those tables
results.py  results/ -> a table in Python
"""
