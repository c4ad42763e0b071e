"""The code behind `mops-helm study`: local runs, Jobs in a cluster, reading their stores."""
