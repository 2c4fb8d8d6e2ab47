"""The rows of the configuration table, one module an area. Data only; ``ottla.config.definitions`` assembles them."""
