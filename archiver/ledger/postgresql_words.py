"""What the ledger says to PostgreSQL itself: settings, locks, marks; nothing of it is from outside."""

from archiver.ledger.backend import lock_key

# Whatever the role or the database has as its default: a writer waits for as long as it must, and who is gone is noticed.
SET = """
SELECT set_config(wanted.name, wanted.value, false)
FROM pg_settings JOIN (VALUES
    ('client_connection_check_interval', '10000'),
    ('client_encoding', 'UTF8'),
    ('idle_in_transaction_session_timeout', '0'),
    ('idle_session_timeout', '0'),
    ('lock_timeout', '0'),
    ('statement_timeout', '0'),
    ('tcp_keepalives_count', '3'),
    ('tcp_keepalives_idle', '15'),
    ('tcp_keepalives_interval', '5'),
    ('tcp_user_timeout', '30000')
) AS wanted (name, value) ON wanted.name = pg_settings.name
"""
DURABLE = frozenset({"on", "remote_apply"})
EVERYTHING = lock_key("'everything'")
ALONE = f"pg_advisory_xact_lock({EVERYTHING})"
SHARED = f"pg_advisory_xact_lock_shared({EVERYTHING})"
HOLD = lock_key("'hold ' || %s::text")
# One message: the lock, which nobody who stands still keeps for long, and which table is the ledger's, seen with the lock.
WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = {standstill_ms}; "
    "SET LOCAL lock_timeout = {standstill_ms}; SELECT {lock}; SET LOCAL lock_timeout = 0; "
    "SELECT oid, {revision} FROM pg_class WHERE relname = 'entries' "
    "AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
)
# While it is being made there may be no table yet.
NO_REVISION, REVISION = "''", "(SELECT string_agg(version_num, ' ') FROM alembic_version)"
# No timeout of the server's counts while it waits for a COPY's next rows, so who waits for the lock ends such a session.
END_STANDSTILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "  # noqa: S608 - our own words
    f"WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = {EVERYTHING} "
    "AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - %s * interval '1 ms'"
)
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# In one message, so that the mark costs no time: it is in the ledger if and only if the transaction is.
COMMIT = (
    "INSERT INTO writers (writer, committed, seen_ms) "
    "VALUES ('{writer}', {number}, (extract(epoch FROM now()) * 1000)::bigint) "
    "ON CONFLICT (writer) DO UPDATE SET committed = excluded.committed, seen_ms = excluded.seen_ms; COMMIT"
)
FORGET = "DELETE FROM writers WHERE writer = %s OR seen_ms < ((extract(epoch FROM now()) - 30 * 86400) * 1000)::bigint"
SELF = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
FORMER = "FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz"
NO_SCHEMA = "the schema that its search_path names is not there; CREATE SCHEMA makes it"
