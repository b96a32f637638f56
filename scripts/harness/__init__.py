"""A real server and a real Home Assistant as processes: for end-to-end tests, demo and benchmark."""
