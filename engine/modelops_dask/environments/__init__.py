"""The packages that a bundle declares.

    bundle -> declaration.py: the file that uv reads, and everything that determines the packages
           -> lockfile.py:    does uv.lock still match the projects that it locks?
           -> elsewhere.py:   files that declare packages but are not read

Only files are read: nothing is built, no index is contacted and no build backend runs. venv.py builds.
"""
