"""The two legacy networks: how their files are recognised, and an independent forward of each."""
