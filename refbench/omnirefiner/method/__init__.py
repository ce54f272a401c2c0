"""The paper, arXiv 2511.19990: read top to bottom in the order of ../README.md."""
