"""An Ottla broker inside a test process."""
