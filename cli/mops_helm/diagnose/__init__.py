"""The code behind `diagnose`: by experiment on this machine or in a release, or by questions to the user."""
