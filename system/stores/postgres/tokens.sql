-- Refresh tokens and revocations, in the namespace's database. Safe to run again.
--
-- A grant is one sign-in; each of its refresh tokens replaces the one before it. Everything that changes a
-- grant first takes that grant's advisory lock, so that a revocation cannot miss a successor that is being
-- written.

CREATE TABLE IF NOT EXISTS refresh_tokens (
    hash text PRIMARY KEY,                -- SHA-256 of the token, hex; the token itself is not stored
    grant_id text NOT NULL,
    user_id bigint NOT NULL,
    scope text NOT NULL,
    expires_at timestamptz NOT NULL,
    used boolean NOT NULL DEFAULT false   -- exchanged for its successor
);
CREATE INDEX IF NOT EXISTS refresh_tokens_by_grant ON refresh_tokens (grant_id);
CREATE INDEX IF NOT EXISTS refresh_tokens_by_age ON refresh_tokens (expires_at);

CREATE TABLE IF NOT EXISTS revocations (
    name text PRIMARY KEY,                -- of an access token (its jti) or of a grant
    until timestamptz NOT NULL            -- after this time all tokens with this name have expired
);

-- While no primary answers, revocations are read from standbys: the commit waits until the synchronous
-- standby has applied it.
CREATE OR REPLACE FUNCTION revoke_name(name_ text, life_s double precision) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('synchronous_commit', 'remote_apply', true);
    INSERT INTO revocations AS r VALUES (name_, clock_timestamp() + make_interval(secs => life_s))
        ON CONFLICT (name) DO UPDATE SET until = greatest(r.until, excluded.until)
$$;

CREATE OR REPLACE FUNCTION lock_grant(hash_ text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    locked_grant text;
BEGIN
    SELECT grant_id INTO locked_grant FROM refresh_tokens WHERE hash = hash_;
    IF locked_grant IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(7411, hashtext(locked_grant));
    END IF;
    RETURN locked_grant;
END $$;

CREATE OR REPLACE FUNCTION rotate_refresh(hash_ text, next_ text, life_s double precision, access_s double precision)
    RETURNS SETOF refresh_tokens LANGUAGE plpgsql AS $$
DECLARE
    row_ refresh_tokens%ROWTYPE;
BEGIN
    PERFORM lock_grant(hash_);
    SELECT * INTO row_ FROM refresh_tokens WHERE hash = hash_ AND expires_at > clock_timestamp();
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF row_.used THEN
        DELETE FROM refresh_tokens WHERE grant_id = row_.grant_id;
        PERFORM revoke_name(row_.grant_id, access_s);
    ELSE
        UPDATE refresh_tokens SET used = true WHERE hash = hash_;
        INSERT INTO refresh_tokens VALUES (
            next_, row_.grant_id, row_.user_id, row_.scope, clock_timestamp() + make_interval(secs => life_s));
    END IF;
    RETURN NEXT row_;
END $$;

CREATE OR REPLACE FUNCTION end_grant(hash_ text, access_s double precision)
    RETURNS SETOF refresh_tokens LANGUAGE plpgsql AS $$
DECLARE
    row_ refresh_tokens%ROWTYPE;
BEGIN
    PERFORM lock_grant(hash_);
    SELECT * INTO row_ FROM refresh_tokens WHERE hash = hash_;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM refresh_tokens WHERE grant_id = row_.grant_id;
    PERFORM revoke_name(row_.grant_id, access_s);
    RETURN NEXT row_;
END $$;
