"""Reports on the results of the work tree: the table of `darkroom summary`, the cards of `darkroom card`."""
