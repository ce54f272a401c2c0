"""The command line: one file a verb, each loaded only when it is used, none with logic of its own."""
