"""The families of networks: how their files are recognised, and an independent forward of each."""
