"""The page ``refbench app``: paint a mask on a draft, and let a model put the detail right."""
