"""What runs in processes of its own: a network of somebody's own, and the repo that was made of it.

It imports nothing of its package, of which the network's project may have modules by name.
"""
