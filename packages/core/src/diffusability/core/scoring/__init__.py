"""The scorecard of autoencoders: a spec made from a command line, and a table of what it measured. Free of torch."""
