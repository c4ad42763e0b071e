"""The store of a study: parts written by workers, folded into a state, compacted into tables.

    files.py       a folder or any fsspec URL: put, create, read, list
    exclusive.py   put-if-absent on every kind of store
    replacing.py   replace a folder by another
    study.py       study.json, spec.json, sets/: the tasks to run
    parts.py       parts/: the finished work, a row per attempt
    merge.py       many files of parts -> a few
    fold.py        parts -> one state per task
    conditions.py  differences between the conditions of results
    compact.py     parts -> results/, the tables for users
    manifest.py    results/manifest.json, which lists them
    tables.py      returned tables -> rows of those tables
    leftovers.py   unused tables in an object store
    results.py     results/ -> a table in Python
    verify.py      all of it -> findings; shares no code with the others

docs/store-format.md describes the files of a store.
"""
