"""The parts of a training quadruplet that are drawn: prints on surfaces, frames of clips, masks."""
