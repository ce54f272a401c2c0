"""Stage 1 by retouching: a head that retouches the placed reference, its losses, scenes and control."""
