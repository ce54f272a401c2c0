"""Adapters: whatever turns a draft, a reference, a mask and a prompt into one refined image.

Nothing is imported here, so that a worker process starts fast; see :mod:`refbench.adapters.load`
to get an adapter, :mod:`refbench.adapters.contained` to run one safely, and docs/adapters.md.
"""
