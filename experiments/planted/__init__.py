"""Studies whose truth is known: what the rule of the reports says of them."""
