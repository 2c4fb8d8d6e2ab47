"""The message generator: ``schema`` reads schemas, ``layout`` plans bytes, ``emit`` writes Python."""
