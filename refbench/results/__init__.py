"""What runs and entries came to: read once, compared by one rule, for tables, figures, pages and the board."""
