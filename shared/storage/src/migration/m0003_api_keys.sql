-- Keys that the API has issued. Only a salted hash of each is kept.
CREATE TABLE api_keys (
    id             uuid PRIMARY KEY,
    name           text NOT NULL,
    salt           bytea NOT NULL,
    hash           bytea NOT NULL,
    scope          text NOT NULL CHECK (scope IN ('all', 'read', 'write', 'admin')),
    -- patterns of task names; null: what the API's settings allow
    allowed_tasks  jsonb CHECK (allowed_tasks IS NULL OR jsonb_typeof(allowed_tasks) = 'array'),
    -- requests a minute and a day; null: what the API's settings say
    rate_limit     integer CHECK (rate_limit > 0),
    daily_quota    integer CHECK (daily_quota > 0),
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    last_used_at   timestamptz,
    revoked_at     timestamptz
);
CREATE INDEX api_keys_newest ON api_keys (created_at DESC, id DESC);
