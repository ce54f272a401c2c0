"""Places where the field shares its work: runs, entries and suites as datasets of the Hugging Face hub."""
