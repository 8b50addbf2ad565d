"""Recordings: what is told on the taps becomes one two-channel file a call, is kept for some days, and can be heard.

    python -m call_tracker record     the recorder, a process of its own beside call-tracker; both share the database

    assembly.py   where each second of a call belongs in its file, and what is missing. Pure
    sound.py      WAV, two channels from one-channel seconds, how loud it is when. Pure
    storage.py    where bytes are kept: a folder, or (s3.py) S3-compatible storage
    ledger.py     what the database knows of recordings
    recorder.py   taps in, files out, old ones away
    app.py        the process
    serving.py    a recording and its waveform for the owner's browser
    player.py     what the page shows of it

Theory of operation. Taps of all calls of a batch are stored together as one *segment*, then each tap's place in it is
written to the database, then the offsets are committed. So whatever is committed is durable, whoever is killed when; a
tap that comes twice is known by its number. When a call has ended and its streams are complete (or nothing has come for
a while), one recorder writes its file from the segments. The file follows from the set of taps alone: writing it again,
after a crash or because taps came late, gives the same file or a more complete one. Segments are let go of when no tap of
them can be on Kafka any more; until then, late taps have the file written anew. What comes after that (a dead letter that
is sent again) is not added: a file is never made of less than it was.

    taps ──▶ segment in storage ──▶ rows in recording_pieces ──▶ offsets committed
    ended and complete, or silent ──▶ file in storage ──▶ row `stored` + RecordingStored in the outbox
    retention over ──▶ file deleted ──▶ row `deleted` + RecordingDeleted in the outbox
"""
