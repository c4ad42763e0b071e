"""What install, upgrade and status call: the values of a release, what changes, whether it runs."""
