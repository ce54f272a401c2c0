"""A run: one model on one suite, in three stages (generate, measure, aggregate), each resumable and repeatable."""
