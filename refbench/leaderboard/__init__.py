"""The board: entries, submission, verification, and the rendered tables. It reads run folders, never a model's code."""
