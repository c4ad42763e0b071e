"""Where a study is kept: parts written by workers, folded into a state, compacted into tables.

files.py    a folder or any fsspec URL: put, create, read, list
study.py    study.json, spec.json, sets/: what there is to do
parts.py    parts/: what was done, a row per attempt
merge.py    many files of parts -> a few
fold.py     parts -> one state per task
conditions.py  what may differ between results of one study
compact.py  parts -> results/, the tables that people read
tables.py   what a model returned -> rows of those tables
results.py  results/ -> a table in Python
verify.py   all of it -> findings; shares no code with the others
"""
