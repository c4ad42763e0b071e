"""What `preset diagnose` calls: by experiment on this machine, in a release, or by questions to a person."""
