"""What the commands `mops-helm study` call: runs on this machine, Jobs in a cluster, reading their stores."""
