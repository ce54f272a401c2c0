"""Reference alignment: the refined region against the reference."""
