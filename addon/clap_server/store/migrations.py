"""The database's schema as steps; a step that was released is never changed, a new one is added."""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE microphones (
            id TEXT PRIMARY KEY,
            settings TEXT NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE events (
            id TEXT PRIMARY KEY,
            sequence INTEGER NOT NULL,
            microphone_id TEXT NOT NULL,
            microphone_name TEXT NOT NULL,
            label_id TEXT NOT NULL,
            label_name TEXT NOT NULL,
            started_at TEXT NOT NULL,
            detected_at TEXT NOT NULL,
            ended_at TEXT,
            threshold REAL NOT NULL,
            score REAL NOT NULL,
            peak_score REAL NOT NULL,
            peak_level_dbfs REAL NOT NULL,
            has_clip INTEGER NOT NULL,
            feedback TEXT
        ) STRICT
        """,
        "CREATE UNIQUE INDEX events_by_sequence ON events (sequence)",
        "CREATE INDEX events_by_microphone ON events (microphone_id, sequence)",
        "CREATE INDEX events_by_label ON events (label_id, sequence)",
        "CREATE INDEX events_by_time ON events (detected_at)",
        # AUTOINCREMENT: SQLite remembers the highest number ever given; none comes again after a delete.
        """
        CREATE TABLE changes (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            change TEXT NOT NULL CHECK (change IN ('started', 'ended')),
            event_id TEXT NOT NULL,
            event TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX changes_by_event ON changes (event_id)",
    ),
    (
        "ALTER TABLE microphones ADD COLUMN adopted INTEGER NOT NULL DEFAULT 0",
        # Until now Home Assistant kept this itself. Ids that it made are ULIDs; any other id that it owns was
        # made by the server.
        """
        UPDATE microphones SET adopted = 1
        WHERE CASE WHEN json_valid(settings) THEN settings ->> '$.owner' END LIKE 'home_assistant:%'
            AND (length(id) <> 26 OR id <> upper(id))
        """,
    ),
    (
        # One row, written by EventStore.
        """
        CREATE TABLE numbering (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            epoch TEXT NOT NULL,
            reserved INTEGER NOT NULL
        ) STRICT
        """,
    ),
    ("ALTER TABLE events ADD COLUMN pattern TEXT",),
    (
        # JSON, as the events of the API have them.
        "ALTER TABLE events ADD COLUMN close TEXT",
        "ALTER TABLE events ADD COLUMN replaced_by TEXT",
        "ALTER TABLE events ADD COLUMN noise_floor_dbfs REAL",
        'ALTER TABLE events ADD COLUMN "group" TEXT',
        "ALTER TABLE events ADD COLUMN clip_withheld TEXT",
        "ALTER TABLE microphones ADD COLUMN muted INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # See RoomStore. The name is a number, or that of an event that the user called false.
        """
        CREATE TABLE room_pieces (
            microphone_id TEXT NOT NULL,
            made_for TEXT NOT NULL,
            name TEXT NOT NULL,
            at REAL NOT NULL,
            priority REAL,
            ends_cs BLOB NOT NULL,
            codes BLOB NOT NULL,
            checksum INTEGER NOT NULL,
            PRIMARY KEY (microphone_id, made_for, name)
        ) STRICT
        """,
        "CREATE INDEX room_pieces_by_time ON room_pieces (at)",
        """
        CREATE TABLE room_days (
            microphone_id TEXT NOT NULL,
            day TEXT NOT NULL,
            heard_s REAL NOT NULL,
            sounding_s REAL NOT NULL,
            PRIMARY KEY (microphone_id, day)
        ) STRICT
        """,
    ),
    (
        # Embeddings are rows of little-endian float16.
        """
        CREATE TABLE traces (
            event_id TEXT PRIMARY KEY,
            made_for TEXT NOT NULL,
            windows INTEGER NOT NULL,
            embeddings BLOB NOT NULL
        ) STRICT
        """,
        """
        CREATE TRIGGER trace_goes_with_its_event AFTER DELETE ON events
        BEGIN DELETE FROM traces WHERE event_id = OLD.id; END
        """,
        """
        CREATE TABLE lessons (
            event_id TEXT PRIMARY KEY,
            microphone_id TEXT NOT NULL,
            label_id TEXT NOT NULL,
            label_name TEXT NOT NULL,
            verdict TEXT NOT NULL,
            heard_at TEXT NOT NULL,
            made_for TEXT NOT NULL,
            windows INTEGER NOT NULL,
            embeddings BLOB NOT NULL
        ) STRICT
        """,
        """
        CREATE TRIGGER lessons_go_with_their_microphone AFTER DELETE ON microphones
        BEGIN DELETE FROM lessons WHERE microphone_id = OLD.id; END
        """,
        """
        CREATE TABLE sounds (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            created_at TEXT NOT NULL,
            made_for TEXT NOT NULL,
            findings TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE sound_clips (
            sound_id TEXT NOT NULL REFERENCES sounds (id),
            number INTEGER NOT NULL,
            windows INTEGER NOT NULL,
            embeddings BLOB NOT NULL,
            flac BLOB,
            PRIMARY KEY (sound_id, number)
        ) STRICT
        """,
        """
        CREATE TRIGGER clips_go_with_their_sound AFTER DELETE ON sounds
        BEGIN DELETE FROM sound_clips WHERE sound_id = OLD.id; END
        """,
    ),
    ("ALTER TABLE events ADD COLUMN clip_starts_at TEXT",),
    (
        # With what settings an event was heard; NULL where an earlier version did not note it.
        "ALTER TABLE traces ADD COLUMN hop_s REAL",
        "ALTER TABLE traces ADD COLUMN denoise INTEGER",
        "ALTER TABLE lessons ADD COLUMN hop_s REAL",
        "ALTER TABLE lessons ADD COLUMN denoise INTEGER",
    ),
    (
        # Of those that go on, in their order, too.
        "CREATE INDEX events_by_end ON events (ended_at, sequence)",
        # Else one that a microphone hears often and a label that others hear would have all of them read.
        "CREATE INDEX events_by_both ON events (microphone_id, label_id, sequence)",
        "CREATE INDEX events_with_clip ON events (id, microphone_id) WHERE has_clip = 1",
        "CREATE INDEX events_with_clip_to_come ON events (sequence) WHERE clip_withheld = 'coming'",
        # Nothing ever asked by it.
        "DROP INDEX events_by_time",
    ),
)
