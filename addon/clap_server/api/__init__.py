"""The aiohttp application: routes, WebSocket, auth, schemas, OpenAPI."""
