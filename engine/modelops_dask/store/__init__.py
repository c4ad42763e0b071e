"""Where a study is kept: parts written by workers, folded into a state, compacted into tables.

files.py    a folder or any fsspec URL: put, create, read, list
exclusive.py   put-if-absent, whatever a store answers
replacing.py   a folder in the place of another
study.py    study.json, spec.json, sets/: what there is to do
parts.py    parts/: what was done, a row per attempt
merge.py    many files of parts -> a few
fold.py     parts -> one state per task
conditions.py  what may differ between results of one study
compact.py  parts -> results/, the tables that people read
manifest.py  results/manifest.json, which lists them
tables.py   what a model returned -> rows of those tables
leftovers.py   tables in an object store that nothing names any more
results.py  results/ -> a table in Python
verify.py   all of it -> findings; shares no code with the others
"""
