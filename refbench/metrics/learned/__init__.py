"""Learned metrics, each through its own library, on weights that are downloaded; measured only when asked for by name.

None of them enters a score: a score must be the same on every machine, and these need files that not every machine
has. They stand beside it. The group name ``learned`` stands for all of them.
"""
