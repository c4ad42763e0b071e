"""What a bundle says about the packages that it needs.

    bundle -> declaration.py: the file that uv reads, and everything that decides the packages
           -> lockfile.py:    does uv.lock still fit the projects that it locks?
           -> elsewhere.py:   files that declare packages and are not read

Reads files only: builds nothing, asks no index and runs no build backend. venv.py builds.
"""
