"""What outlasts a restart: microphones, events (SQLite), clips (files), identity and token."""
