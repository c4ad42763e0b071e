"""The code behind install, upgrade and status: the values of a release, its changes, its state."""
