"""How the built-in model is made. Never imported by the server."""
