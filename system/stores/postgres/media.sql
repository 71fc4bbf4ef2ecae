-- Media, and the lease of their orphan collector, in the namespace's database. Safe to run again.
--
-- A row is written before the first URL is issued, and deleted last, after the bytes: whatever crashes in
-- between, storage holds nothing without a row. `state` only moves forward (see system/ports/media.py). Ages
-- are by this server's clock.

CREATE TABLE IF NOT EXISTS media (
    id text PRIMARY KEY,                  -- <owner>_<number>
    owner_id bigint NOT NULL,
    content_type text NOT NULL,
    size bigint NOT NULL,                 -- bytes, as declared; the signed URL accepts no other size
    sha256 text NOT NULL,                 -- hex; of the served object once finalised, else as declared
    state text NOT NULL CHECK (state IN ('initialised', 'finalised', 'attached', 'condemned')),
    tweet_id bigint,                      -- the tweet of an attached medium
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed boolean NOT NULL DEFAULT false,  -- its tweet is known to exist
    sweeps int NOT NULL DEFAULT 0,        -- how often the bytes of a condemned medium were removed
    due_at timestamptz                    -- when the bytes of a condemned medium are removed (again)
) WITH (fillfactor = 80);
-- The digest declared at initialize, '' for none; NULL in rows of older labs, where `sha256` is used instead.
ALTER TABLE media ADD COLUMN IF NOT EXISTS declared text;
-- The served object, and when the uploaded bytes are removed (again); NULL in rows of older labs, where one object
-- was both.
ALTER TABLE media ADD COLUMN IF NOT EXISTS served_size bigint;
ALTER TABLE media ADD COLUMN IF NOT EXISTS original_due_at timestamptz;
ALTER TABLE media ADD COLUMN IF NOT EXISTS original_sweeps int NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS media_by_tweet ON media (tweet_id) WHERE tweet_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS media_waiting ON media (changed_at) WHERE state <> 'condemned' AND NOT confirmed;
CREATE INDEX IF NOT EXISTS media_originals ON media (original_due_at) WHERE original_due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS media_due ON media (due_at) WHERE state = 'condemned';

CREATE TABLE IF NOT EXISTS media_collector (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder text NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO media_collector DEFAULT VALUES ON CONFLICT DO NOTHING;
