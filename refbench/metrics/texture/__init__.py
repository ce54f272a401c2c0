"""Texture fidelity: the refined region against the target."""
