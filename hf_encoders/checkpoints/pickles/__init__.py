"""Reads pickles as data: a stack machine that imports nothing, and the constructors that it knows."""
