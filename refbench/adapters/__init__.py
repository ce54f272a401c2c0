"""Adapters: whatever turns a draft, a reference, a mask and a prompt into one refined image.

Nothing is imported here, so that a worker process starts fast; see :mod:`refbench.adapters.load`
to open an adapter, :mod:`refbench.adapters.contract` for what it is, and docs/adapters.md.
"""
