"""One module per API; ``table`` lists them."""
